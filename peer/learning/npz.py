"""Reading records from an NPZ file that nobody vouches for.

Neighbours: ``readers`` decides that a file is one, and bounds its size.
Invariants: no pickle; an array is read only after its header, and the size it claims, were checked against the archive.
"""

import math
import zipfile
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from protocol.base.errors import ConfigurationError

if TYPE_CHECKING:
    from peer.learning.readers import Labels, Problems


def read(
    problems: "Problems", labels: "Labels", names: tuple[str, ...] | None, most_cells: int, *, targets: bool = True
) -> tuple[NDArray[np.float64], NDArray[np.float64], tuple[str, ...]]:
    """Records (n, f), targets (n,) and feature names, from ``X``, ``y`` and perhaps ``features``.

    Without ``targets`` no ``y`` is read, and the targets are zeros.

    Raises ``ConfigurationError``; may leave further mistakes in ``problems``.
    """
    try:
        with zipfile.ZipFile(problems.path) as archive:
            arrays = {
                key: _read_array(archive, key, problems, most_cells)
                for key in ("X", *(["y"] if targets else []), "features")
                if key != "features" or f"{key}.npy" in archive.namelist()
            }
        arrays.setdefault("y", np.zeros(arrays["X"].shape[:1]))
        return _assemble(problems, labels, names, arrays)
    except (ConfigurationError, OSError):
        raise
    except Exception as error:  # the archive, the compression and the header each have errors of their own
        raise problems.fail(f"is not a whole NPZ file ({error})") from error


def _assemble(
    problems: "Problems", labels: "Labels", names: tuple[str, ...] | None, arrays: dict[str, NDArray[Any]]
) -> tuple[NDArray[np.float64], NDArray[np.float64], tuple[str, ...]]:
    x, y = arrays["X"], arrays["y"]
    if x.ndim != 2 or x.dtype.kind not in "biuf":
        problems.say(f"array X must be numbers, records by features, not {x.dtype} of shape {x.shape}")
    elif 0 in x.shape:
        problems.say(f"array X is empty (shape {x.shape})")
    if y.ndim != 1 or y.dtype.kind not in "biufU":
        problems.say(f"array y must be numbers or text in one dimension, not {y.dtype} of shape {y.shape}")
    elif x.ndim == 2 and len(y) != len(x):
        problems.say(f"array y has {len(y)} entries, array X has {len(x)} rows")
    problems.check()
    x = _arrange(problems, x, arrays.get("features"), names)
    _check_finite(problems, x)
    found = arrays.get("features")
    if names is None:
        names = tuple(map(str, found)) if found is not None else tuple(f"f{i}" for i in range(1, x.shape[1] + 1))
    return x, _targets(problems, labels, y), names


def _read_array(archive: zipfile.ZipFile, key: str, problems: "Problems", most_cells: int) -> NDArray[Any]:
    try:
        entry = archive.getinfo(f"{key}.npy")
    except KeyError:
        present = ", ".join(sorted(archive.namelist())[:10]) or "nothing"
        raise problems.fail(f"has no array called '{key}' (it holds {present})") from None
    with archive.open(entry) as file:
        shape, fortran, dtype = _read_header(file)
        if dtype.hasobject:
            raise problems.fail(f"array {key} holds Python objects, save it as numbers or text")
        size = math.prod(shape) * dtype.itemsize
        if math.prod(shape) > most_cells or size > 8 * most_cells:
            raise problems.fail(f"array {key} of shape {shape} is too large, at most {most_cells} values will do")
        # one byte more than the header claims would be too many, and no more than the archive claims is asked for
        plausible = min(shape, default=1) >= 0 and size <= entry.file_size
        content = file.read(size + 1) if plausible else b""
    if not plausible or len(content) != size:
        raise problems.fail(f"array {key} is damaged, its size is not what its header says")
    return np.frombuffer(content, dtype=dtype).reshape(shape, order="F" if fortran else "C")


def _read_header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(file)
    match version:
        case (1, 0):
            return np.lib.format.read_array_header_1_0(file)
        case (2, 0):
            return np.lib.format.read_array_header_2_0(file)
        case _:
            raise ValueError(f"format version {version} is not known")


def _arrange(
    problems: "Problems", x: NDArray[Any], found: NDArray[Any] | None, names: tuple[str, ...] | None
) -> NDArray[np.float64]:
    """``x`` as float64, its columns in the order of ``names`` if the file names its own."""
    with np.errstate(over="ignore"):  # wider floats may become infinite, which is said below
        wide = np.ascontiguousarray(x, dtype=np.float64)
    if found is not None:
        if found.shape != (x.shape[1],) or found.dtype.kind != "U":
            raise problems.fail(f"array features must be {x.shape[1]} names as text, one for each column of X")
        own = [str(name) for name in found]
        if len(set(own)) < len(own):
            raise problems.fail("array features names a column twice")
        if names is not None:
            for name in names:
                if name not in own:
                    problems.say(f"has no feature called '{name}'")
            problems.check()
            return np.ascontiguousarray(wide[:, [own.index(name) for name in names]])
    elif names is not None and len(names) != x.shape[1]:
        raise problems.fail(f"array X has {x.shape[1]} columns, {len(names)} features are needed")
    return wide


def _check_finite(problems: "Problems", x: NDArray[np.float64]) -> None:
    bad = ~np.isfinite(x)
    if bad.any():
        for row, column in np.argwhere(bad)[:20].tolist():
            problems.say_cell(f"row {row + 1}, column {column + 1}", str(x[row, column]), "is not a finite number")


def _targets(problems: "Problems", labels: "Labels", y: NDArray[Any]) -> NDArray[np.float64]:
    out = np.zeros(len(y), dtype=np.float64)
    for row, value in enumerate(y.tolist()):
        text = str(int(value) if isinstance(value, bool) else value)
        try:
            out[row] = labels.read(text)
        except ValueError as error:
            problems.say_cell(f"row {row + 1}, array y", text, error)
    return out
