"""The package calls no shell, evaluates no text, unpickles nothing without its allow list, and loads YAML safely."""

from __future__ import annotations

import ast
from pathlib import Path

FORBIDDEN = {
    "eval",
    "exec",
    "os.system",
    "os.popen",
    "pickle.load",
    "pickle.loads",
    "yaml.unsafe_load",
    "yaml.full_load",
    "subprocess.getoutput",
    "subprocess.getstatusoutput",
    "shutil.unpack_archive",
    "tempfile.mktemp",
}
ALLOWED = {("sclong/debug.py", "exec"), ("sclong/plan/costs.py", "eval")}
"""`sclong debug` runs the script of a rule; `sclong plan` evaluates the formulas of a profile, as Snakemake does."""


def calls(path: Path) -> list[tuple[int, str, ast.Call]]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [(n.lineno, ast.unparse(n.func), n) for n in ast.walk(tree) if isinstance(n, ast.Call)]


def test_no_call_runs_text_of_others(root: Path) -> None:
    wrong = []
    for folder in ("sclong", "workflow"):
        for path in sorted((root / folder).rglob("*.py")):
            for line, name, call in calls(path):
                where = path.relative_to(root).as_posix()
                keywords = {k.arg: ast.unparse(k.value) for k in call.keywords}
                bad = name in FORBIDDEN and (where, name) not in ALLOWED
                bad |= keywords.get("shell") == "True"
                bad |= name == "torch.load" and keywords.get("weights_only") != "True"
                bad |= name in ("np.load", "numpy.load") and keywords.get("allow_pickle") == "True"
                bad |= name == "yaml.load" and not {"_Loader", "yaml.BaseLoader"} & {
                    *keywords.values(),
                    *(ast.unparse(a) for a in call.args[1:]),
                }
                bad |= name.endswith(".extractall") or (name.endswith(".eval") and bool(call.args))
                if bad:
                    wrong.append(f"{where}:{line}: {ast.unparse(call)[:100]}")
    assert not wrong
