"""What the checks of the exercises are written with. A check is a function with a title and hints; it calls the learner's
code, and says what is wrong with the answer, by name where it is a mistake that is often made.

    @check("causal_mask: what may be seen", "torch.ones(T, T) sees everything.", "Tensor.tril() keeps ...")
    def mask(mine):
        same(mine.causal_mask(3), expected, "causal_mask(3)", {"the diagonal is missing": ...})
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

F = TypeVar("F", bound=Callable[..., Any])


class Wrong(Exception):
    """What a learner's code does, and what it should do."""


def check(title: str, *hints: str) -> Callable[[F], F]:
    """Marks a function as a check. Each hint says more than the one before."""

    def marked(function: F) -> F:
        function.title, function.hints = title, hints  # type: ignore[attr-defined]
        return function

    return marked


def expect(right: bool, otherwise: str) -> None:
    """Raises Wrong."""
    if not right:
        raise Wrong(otherwise)


def same(
    got: Any,
    expected: Any,
    what: str,
    mistakes: Mapping[str, Any] | Iterable[tuple[str, Any]] = (),
    close: float = 1e-4,
) -> None:
    """Raises Wrong where an answer is not what was expected, tensors within `close`. `mistakes` are what it would be if one
    had been made: the first that fits is named."""
    if _alike(got, expected, close):
        return
    for mistake, answer in mistakes.items() if isinstance(mistakes, Mapping) else mistakes:
        if _alike(got, answer, close):
            raise Wrong(f"{what}: {mistake}.")
    raise Wrong(_difference(got, expected, what, close))


def _alike(got: Any, expected: Any, close: float) -> bool:
    if isinstance(expected, Tensor):
        if not isinstance(got, Tensor) or got.shape != expected.shape or got.is_complex():
            return False
        return torch.allclose(got.detach().double(), expected.detach().double(), atol=close, rtol=close, equal_nan=True)
    if isinstance(expected, float):
        if isinstance(got, Tensor) and not got.dim():
            got = got.item()
        number = isinstance(got, int | float) and not isinstance(got, bool)
        return number and abs(got - expected) <= close * max(1.0, abs(expected))
    return type(got) is type(expected) and bool(got == expected)


def _difference(got: Any, expected: Any, what: str, close: float) -> str:
    """In words, as near to the cause as can be told."""
    if got is None and expected is not None:
        return f"{what} gives None: is a `return` missing?"
    if not isinstance(expected, Tensor):
        if type(got) is not type(expected) and not isinstance(expected, float):
            return (
                f"{what} is of type {type(got).__name__} and should be {type(expected).__name__}: {_short(expected)}."
            )
        return f"{what} is {_short(got)} and should be {_short(expected)}."
    if not isinstance(got, Tensor):
        return f"{what} is of type {type(got).__name__} and should be a tensor of shape {tuple(expected.shape)}."
    if got.shape != expected.shape:
        return f"{what} has shape {tuple(got.shape)} and should have {tuple(expected.shape)}."
    if not got.dtype.is_complex and got.isnan().any() and not expected.isnan().any():
        return f"{what} has {int(got.isnan().sum())} places that are not numbers (nan)."
    got, expected = got.detach().double(), expected.detach().double()
    off = torch.where(got == expected, 0.0, (got - expected).abs().nan_to_num(float("inf")))
    at = torch.unravel_index(off.argmax(), off.shape) if off.dim() else ()
    place = f" at [{', '.join(str(int(i)) for i in at)}]" if off.dim() else ""
    wrong = int((off > close).sum())
    values = f"{got[at].item():.4g} and should be {expected[at].item():.4g}"
    return f"{what}{place} is {values} ({wrong} of {off.numel()} numbers differ)."


def _short(value: Any) -> str:
    text = f"{value:.6g}" if isinstance(value, float) else repr(value)
    return text if len(text) <= 120 else text[:117] + "..."


def same_weights(own: nn.Module, theirs: nn.Module, std: float | None = None) -> None:
    """Gives the learner's module the weights of ours, drawn anew where `std` is given. Raises Wrong where parameters are
    missing, over, or of another shape; buffers may be anything."""
    wanted = {name: tuple(p.shape) for name, p in theirs.named_parameters()}
    got = {name: tuple(p.shape) for name, p in own.named_parameters()}
    missing, over = [name for name in wanted if name not in got], [name for name in got if name not in wanted]
    if missing and all(name.startswith("blocks.") for name in missing) and not over:
        raise Wrong("PyTorch does not see the blocks: a plain list hides them. Put them into nn.ModuleList(...).")
    for names, what in ((missing, "is missing"), (over, "should not be there")):
        if names:
            rest = f", and {len(names) - 1} more" if len(names) > 1 else ""
            raise Wrong(f"The parameter {names[0]} {got.get(names[0]) or wanted[names[0]]} {what}{rest}.")
    for name in wanted:
        if got[name] != wanted[name]:
            raise Wrong(f"The parameter {name} has shape {got[name]} and should have {wanted[name]}.")
    with torch.no_grad():
        mine = dict(own.named_parameters())
        for name, parameter in theirs.named_parameters():
            if std is not None:
                parameter.normal_(std=std)
            mine[name].copy_(parameter)
