"""Writes a worker's folder from the templates in ``template/``: ``@word@`` is replaced, ``.tmpl`` dropped."""

import re
import shutil
import tempfile
from importlib.resources import as_file, files
from pathlib import Path

from opsbus.scaffold.names import Names


class FolderExistsError(Exception):
    """There is something at the place of the new folder."""


_SUFFIX = ".tmpl"
_WORD = re.compile(r"@([a-z]+)@")


def write_worker(names: Names, folder: Path) -> list[Path]:
    """Write the folder, all of it or nothing; the files, relative to it.

    Raises:
        FolderExistsError: it is there already, and is left alone.
        OSError: it cannot be written.
    """
    if folder.exists() or folder.is_symlink():
        raise FolderExistsError(f"{folder} is there already")
    folder.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        with as_file(files("opsbus.scaffold") / "template") as template:
            written = [_write(path, template, names, fresh) for path in sorted(template.rglob(f"*{_SUFFIX}"))]
        fresh.chmod(0o755)
        fresh.rename(folder)
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise
    return written


def _write(source: Path, template: Path, names: Names, folder: Path) -> Path:
    target = _target(source.relative_to(template), names)
    path = folder / target
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(_fill(source.read_text(encoding="utf-8"), names), encoding="utf-8")
    return target


def _target(template_path: Path, names: Names) -> Path:
    text = str(template_path).removesuffix(_SUFFIX)
    text = text.replace("package/", f"{names.package}/").replace("test_name.py", f"test_{names.package}.py")
    return Path(".gitignore" if text == "gitignore" else text)


def _fill(text: str, names: Names) -> str:
    words = {
        "name": names.name,
        "package": names.package,
        "distribution": names.distribution,
        "title": names.title,
        "class": names.class_name,
        "env": names.env,
        "mcp": names.mcp,
    }
    return _WORD.sub(lambda match: words[match.group(1)], text)
