# A workflow of small jobs that fail on purpose. Each goes wrong once, and must be right at the end.
localrules:
    fetch,


rule no_network_needed:
    input:
        "fetched.txt",
        "downloaded.txt",


rule fetch:
    output:
        "fetched.txt",
    shell:
        "test -z \"${{SLURM_JOB_ID:-}}\" && echo local > {output}"


rule download:
    output:
        "downloaded.txt",
    resources:
        mem_mb=400,
        runtime=5,
    shell:
        "echo $SLURM_JOB_PARTITION $SLURMD_NODENAME > {output}"


rule memory:
    output:
        "memory.txt",
    resources:
        mem_mb=lambda wildcards, attempt: 500 * attempt,
        runtime=5,
    shell:
        "echo {resources.mem_mb} >> asked.txt; "
        "python -c 'import time; kept = bytearray(600_000_000); time.sleep(5)' && echo {resources.mem_mb} > {output}"


rule cancelled:
    output:
        "cancelled.txt",
    resources:
        mem_mb=400,
        runtime=5,
    shell:
        "echo $SLURM_JOB_ID >> tried.txt; [ $(wc -l < tried.txt) -gt 1 ] || sleep 300; echo done > {output}"


rule before:
    output:
        "before.txt",
    resources:
        mem_mb=400,
        runtime=5,
    shell:
        "echo $SLURMD_NODENAME > node.txt; while [ ! -e drained ]; do sleep 0.5; done; echo $SLURMD_NODENAME > {output}"


rule after:
    input:
        "before.txt",
    output:
        "after.txt",
    resources:
        mem_mb=400,
        runtime=5,
    shell:
        "echo $SLURMD_NODENAME > {output}"


rule slow:
    output:
        "slow.txt",
    resources:
        mem_mb=400,
        runtime=5,
    shell:
        "echo $SLURM_JOB_ID >> slow_jobs.txt; sleep 8; echo whole > {output}"


rule end:
    input:
        "slow.txt",
    output:
        "end.txt",
    resources:
        mem_mb=400,
        runtime=5,
    shell:
        "cp {input} {output}"


rule impossible:
    output:
        "impossible.txt",
    resources:
        mem_mb=10_000_000,
        runtime=5,
    shell:
        "touch {output}"


rule gpu:
    output:
        "gpu.txt",
    resources:
        mem_mb=400,
        runtime=5,
        gpu=1,
    shell:
        "echo $SLURM_JOB_PARTITION $CUDA_VISIBLE_DEVICES > {output}"


rule two_nodes_with_gpus:
    output:
        "gpus.txt",
    resources:
        mem_mb=400,
        runtime=5,
        mpi="srun",
        nodes=2,
        tasks=2,
        tasks_per_gpu=0,
        gres="gpu:1",
        slurm_extra="--ntasks-per-node=1",
    shell:
        "srun --nodes=2 --ntasks=2 --ntasks-per-node=1 bash -c 'echo $SLURM_JOB_PARTITION $SLURMD_NODENAME $CUDA_VISIBLE_DEVICES' "
        "| sort > {output}"
