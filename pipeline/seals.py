"""Everything a result depends on, as one digest; and the seal that vouches for a finished result.

A result lies in `store/<stage>/<digest>/`. The digest covers the settings of the stage, its seed, its code and the
result digests of its inputs, so a re-run that changes no byte stops there. `seal.json`, written
last, lists the causes and the digest of every file.
"""

import ast
import functools
import importlib.util
import json
import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel

from stages import store
from stages.contracts import UserError
from stages.settings import external_paths, external_urls

log = logging.getLogger(__name__)
SEAL = "seal.json"
_OWN = ("stages",)


class Seal(NamedTuple):
    """A finished result."""

    folder: Path
    causes: dict[str, Any]
    """stage, settings, seed, code (digest by module), inputs (result digest by role), and, where the stage gets the
    root's key, secrets (its digest)."""
    files: dict[str, dict[str, Any]]
    """SHA-256 and size of every file, by relative name."""
    result: str
    """One digest over all files: what later stages depend on."""


def digest_of(value: Any) -> str:
    """Digest of a JSON value; equal values give equal digests whatever the order of their keys."""
    return store.digest_bytes(json.dumps(value, sort_keys=True, separators=(",", ":")).encode())


def causes(
    stage: str,
    settings: BaseModel,
    seed: int,
    module: str,
    inputs: Mapping[str, str],
    root: Path,
    secrets: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """All that a result depends on, as plain JSON values.

    Args:
        stage: its name.
        settings: its settings; paths to outside files are replaced by the digest of what lies there.
        seed: the seed it is given.
        module: where its function lives; the code of every own module it stands on counts.
        inputs: result digest of each input, by role.
        root: where digests of large outside files are remembered.
        secrets: digest of each secret, by the name the stage knows it by.
    """
    plain = settings.model_dump(mode="json")
    contents = {name: "content " + external_digest(path, root) for name, path in external_paths(settings).items()}
    contents |= {name: "address " + address_digest(url, root) for name, url in external_urls(settings).items()}
    for dotted, content in contents.items():
        *sections, field = dotted.split(".")
        functools.reduce(dict.__getitem__, sections, plain)[field] = content
    found = {"stage": stage, "settings": plain, "seed": seed, "code": code_of(module), "inputs": dict(inputs)}
    return found | ({"secrets": dict(secrets)} if secrets else {})


@functools.cache
def code_of(module: str) -> dict[str, str]:
    """Digest of every own module that `module` stands on, itself included, by name.

    The digest is of the syntax tree without docstrings: comments, layout and documentation make nothing stale. A data
    file of ours (a template, shipped weights) counts where a module's code names it as a string.
    """
    found: dict[str, str] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        tree, package, folder = _source(name)
        found[name] = store.digest_bytes(ast.dump(_without_docstrings(tree)).encode())[:16]
        found |= {f"{name}:{path.name}": store.digest_file(path)[:16] for path in _data_files(tree, folder)}
        waiting += [other for other in _imports(tree, package) if other.split(".")[0] in _OWN]
    return dict(sorted(found.items()))


def _source(name: str) -> tuple[ast.Module, str, Path]:
    """Syntax tree of a module, the package its relative imports start from, and the folder it lies in."""
    path = _file(name)
    assert path is not None, name
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    return ast.parse(path.read_text()), package, path.parent


@functools.cache
def _file(name: str) -> Path | None:
    """The source file of a module, found without importing what lies above it; None where there is none."""
    top, *rest = name.split(".")
    if top not in _OWN:
        spec = importlib.util.find_spec(name)
        return Path(spec.origin) if spec is not None and spec.origin is not None else None
    spec = importlib.util.find_spec(top)
    assert spec is not None and spec.origin is not None, top
    place = Path(spec.origin).parent.joinpath(*rest)
    return next((p for p in (place / "__init__.py", place.with_name(place.name + ".py")) if p.is_file()), None)


def _data_files(tree: ast.Module, folder: Path) -> list[Path]:
    """Files of the own packages, other than code, whose name or path below the top package stands in `tree`."""
    top = next((parent for parent in (folder, *folder.parents) if parent.name in _OWN), None)
    if top is None:
        return []
    words = {n.value for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, str)}
    files = [p for p in top.rglob("*") if p.suffix in (".jinja", ".safetensors", ".json") and p.is_file()]
    return sorted(p for p in files if {p.name, p.relative_to(top).as_posix()} & words)


def _without_docstrings(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [s for s in body if not _is_text(s)]  # type: ignore[attr-defined]
    return tree


def _is_text(statement: ast.stmt) -> bool:
    """Whether a statement is a bare string: a docstring of a module, class, function or field."""
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )


def _imports(tree: ast.Module, package: str) -> list[str]:
    """Names of the modules a tree imports, wherever in it; `from a import b` counts a, and a.b where it is a module."""
    names: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = package.split(".")
                base = ".".join(parts[: len(parts) - node.level + 1] + ([base] if base else []))
            names.append(base)
            if base.split(".")[0] in _OWN:
                names += [name for alias in node.names if _file(name := f"{base}.{alias.name}")]
    return names


def external_digest(path: Path, root: Path) -> str:
    """Digest of an outside file or folder's content; remembered by size and time of change, so asking again is a stat.

    A file that cannot be read, or vanishes meanwhile, counts as such: what that means is for the stage to say.

    Raises:
        UserError: nothing is there.
    """
    if not path.exists():
        raise UserError(f"There is nothing at {path}. Mend the path; a recipe's may be given with --set, too.")
    memory_path = root / "store" / ".outside.json"
    memory: dict[str, list[Any]] = store.read_json(memory_path) if memory_path.exists() else {}
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    lines, before = [], dict(memory)
    for file in files:
        name = "" if path.is_file() else file.relative_to(path).as_posix()
        lines.append([name, _content_digest(file, memory)])
    if memory != before:
        store.write_json(memory_path, memory)
    return digest_of(lines)


def _content_digest(file: Path, memory: dict[str, list[Any]]) -> str:
    """Digest of a file, from `memory` or for it; a word where it cannot be read."""
    try:
        stat, key = file.stat(), str(file.resolve())
        mark = [stat.st_size, stat.st_mtime_ns]
        known = memory.get(key)
        if known is not None and known[:2] == mark:
            return str(known[2])
        digest = store.digest_file(file)
    except OSError:
        return "unreadable"
    # A file changed in the last seconds may change again within its clock's grain: hash it next time too.
    if time.time_ns() - stat.st_mtime_ns > 2_000_000_000:
        memory[key] = [*mark, digest]
    return digest


def address_digest(url: str, root: Path) -> str:
    """What tells the content of an address, as its server vouches for it; where it cannot be reached, as it last did.

    Raises:
        UserError: it cannot be read and never was.
    """
    from stages.sources import remote

    memory_path = root / "store" / ".addresses.json"
    memory: dict[str, str] = store.read_json(memory_path) if memory_path.exists() else {}
    key = store.digest_bytes(url.encode())
    try:
        found = remote.mark(url)
    except UserError as error:
        if key not in memory:
            raise
        log.warning("%s It is taken to be as it was when last read.", error)
        return memory[key]
    if memory.get(key) != found:
        store.write_json(memory_path, memory | {key: found})
    return found


def place(root: Path, stage: str, digest: str) -> Path:
    """The folder of a result."""
    return root / "store" / stage / digest[:32]


def read(folder: Path) -> Seal | None:
    """The seal of a finished result, or None where there is none or files are missing or of another size."""
    path = folder / SEAL
    if not path.is_file():
        return None
    seal = Seal(folder, **store.read_json(path))
    for name, facts in seal.files.items():
        file = folder / name
        if not file.is_file() or file.stat().st_size != facts["bytes"]:
            return None
    return seal


def find(root: Path, stage: str, digest: str) -> Seal | None:
    """The seal for `digest`: the result itself, or the one a person accepted in its place."""
    folder = place(root, stage, digest)
    accepted = accepted_path(root, stage, digest)
    if accepted.exists() and not (folder / SEAL).exists():
        folder = place(root, stage, store.read_json(accepted)["stands_for"])
    return read(folder)


def write(folder: Path, all_causes: Mapping[str, Any]) -> Seal:
    """Seal a finished folder: digest every file, write `seal.json` last."""
    (folder / SEAL).unlink(missing_ok=True)
    files = store.digest_folder(folder)
    result = digest_of({name: facts["sha256"] for name, facts in files.items()})
    seal = Seal(folder, dict(all_causes), files, result)
    store.write_json(folder / SEAL, {"causes": seal.causes, "files": files, "result": result})
    return seal


def damage(seal: Seal) -> list[str]:
    """Names of the files that are no longer what was sealed, by hashing all of them in full."""
    found = store.digest_folder(seal.folder)
    found.pop(SEAL, None)
    names = sorted(found.keys() | seal.files.keys())
    return [name for name in names if found.get(name) != seal.files.get(name)]


def accepted_path(root: Path, stage: str, digest: str) -> Path:
    """Where a person's word is kept that an older result stands for `digest`."""
    return root / "store" / stage / f"{digest[:32]}.accepted.json"


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """What changed between two sets of causes, one line each, for people."""
    lines = []
    for head in ("settings", "code", "inputs", "secrets"):
        before, after = old.get(head, {}), new.get(head, {})
        for key in sorted(before.keys() | after.keys()):
            if before.get(key) != after.get(key):
                lines.append(_difference(head, key, before.get(key), after.get(key)))
    if old.get("seed") != new.get("seed"):
        lines.append("the seed changed")
    return lines


def _difference(head: str, key: str, before: Any, after: Any) -> str:
    if head == "settings":
        short = [str(v) if len(str(v)) < 60 else str(v)[:57] + "..." for v in (before, after)]
        return f"setting {key}: {short[0]} -> {short[1]}"
    if head == "secrets":
        return f"the root's {key} is " + ("new" if before is None else "another")
    return f"code of {key} changed" if head == "code" else f"input {key} changed"
