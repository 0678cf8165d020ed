"""The public interface: in the changelog when it changes, and typed for its users."""

import json
import re
import subprocess
import sys
from pathlib import Path

import api
import pytest

import v2v_lite

ROOT = Path(__file__).resolve().parent.parent
USER_SCRIPT = """
import v2v_lite

translator = v2v_lite.align.SelfLearn()
width = translator.fit(split.source, split.target, seed=0).weight.shape
mini = v2v_lite.align.MiniVec2Vec().fit(split.source, split.target)
attack = v2v_lite.privacy.invert
preset = v2v_lite.vec2vec.RELEASED
trained = v2v_lite.vec2vec.train
found = v2v_lite.measure.score(split.eval_source, split.eval_target).top1.mean
space = v2v_lite.spaces.Space.load("vectors.safetensors").n
print(width, mini, attack, preset, trained, found, space)
"""


def readme_code() -> str:
    """The README's ten lines of Python."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    return re.findall(r"^```python\n(.*?)^```", text, re.M | re.S)[0]


def check_types(folder: Path, code: str) -> list[str]:
    """basedpyright's errors on a script; a name of unknown type is one of them.

    Partly unknown are types such as NumPy's arrays without a dtype: these are fine.
    """
    script = folder / "script.py"
    script.write_text(code, encoding="utf-8")
    config = {
        "extraPaths": [str(ROOT)],
        "typeCheckingMode": "basic",
        "pythonVersion": f"3.{sys.version_info.minor}",
        "reportAny": "error",
        "reportUnknownMemberType": "error",
        "reportUnknownVariableType": "error",
    }
    (folder / "pyrightconfig.json").write_text(json.dumps(config))
    call = [sys.executable, "-m", "basedpyright", "--outputjson", "-p", str(folder)]
    call += ["--pythonpath", sys.executable]
    done = subprocess.run(call, capture_output=True, text=True, cwd=folder)
    assert done.stdout.lstrip().startswith("{"), done.stdout + done.stderr
    told = json.loads(done.stdout)
    assert told["summary"]["filesAnalyzed"] >= 1
    return [
        f"line {one['range']['start']['line'] + 1}: {one['message']}"
        for one in told["generalDiagnostics"]
        if one["severity"] == "error" and "partially unknown" not in one["message"]
    ]


@pytest.mark.slow
def test_a_type_checker_resolves_every_name_of_a_user_script(tmp_path):
    pytest.importorskip("basedpyright")
    assert check_types(tmp_path, readme_code() + USER_SCRIPT) == []


@pytest.mark.slow
def test_a_type_checker_sees_a_wrong_name(tmp_path):
    pytest.importorskip("basedpyright")
    wrong = "import v2v_lite\nv2v_lite.align.SelfTaught\n"
    assert any("SelfTaught" in line for line in check_types(tmp_path, wrong))


# ---- the changelog


def test_every_change_of_the_public_interface_is_in_the_changelog():
    """Fails with the lines that CHANGELOG.md lacks; `make api` shows all."""
    _, missing = api.report()
    assert missing == []


def test_changelog_and_citation_have_this_version():
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.findall(r"^## \[([^\]]+)\]", text, re.M)[0] == v2v_lite.__version__
    text = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert re.findall(r"^version: (\S+)", text, re.M) == [v2v_lite.__version__]


OLD = {
    "align": {"fit": "(x)", "gone": "(x)", "Map": "(a)", "Map.of": "(b)"},
    "show": {},
}
NEW = {
    "align": {"fit": "(x, y=1)", "come": "(x)", "Map": "(a)"},
    "teaching": {"a": "()"},
}


def test_differences_name_what_came_went_and_changed():
    assert api.differences(OLD, NEW) == [
        "show: removed",
        "teaching: added",
        "align.Map.of: removed",
        "align.come: added",
        "align.fit: (x) -> (x, y=1)",
        "align.gone: removed",
    ]


@pytest.mark.parametrize(
    ("text", "missing"),
    [
        ("`v2v_lite.align.fit(x)` and `teaching`", ["show", "Map.of", "come", "gone"]),
        ("fit, come, gone without backticks", None),
        ("| `show` | `teaching` |\n| `gone` | `come` |\n`Map.of`, `fit`", []),
        ("`of` is not `Other.of`", None),
    ],
)
def test_a_change_is_told_when_its_name_stands_in_backticks(text, missing):
    lines = api.differences(OLD, NEW)
    found = [api.short(line) for line in api.untold(lines, text)]
    if missing is None:
        missing = [api.short(line) for line in lines]
    assert found == missing


def test_only_sections_after_the_release_count():
    text = "# Changes\n## [2.0.0]\nnew\n## [1.0.0]\nold\n"
    assert "new" in api.since(text, "1.0.0") and "old" not in api.since(text, "1.0.0")
    with pytest.raises(SystemExit, match="no section"):
        api.since(text, "0.9.0")


def test_signatures_are_what_a_caller_can_break_on():
    def one(x: int, y: float = 2.0, *, z: object = api, **rest: str) -> None: ...

    assert api.signature(one) == "(x, y=2.0, *, z=..., **rest)"
    assert api.signature(ValueError) == "exception"
    assert api.signature({}) == "dict"


def test_every_name_that_a_subpackage_lists_exists():
    for floor, names in api.public().items():
        assert names, f"{floor} lists no public names"
