"""Operations on two operands: by name, as an expression in a and b, or in a symmetric group."""

import ast
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from grok.errors import near_match
from grok.tasks import tables
from grok.tasks.lists import LIST_OPERATIONS

# Power et al. 2022, A.1.1 and the published code's further ones, modulo p.
NAMED = {
    "x_plus_y": "a + b",
    "x_minus_y": "a - b",
    "x_times_y": "a * b",
    "x_div_y": "a / b",
    "x2_plus_y": "a**2 + b",
    "x3_plus_y": "a**3 + b",
    "x2_plus_y2": "a**2 + b**2",
    "x2_plus_xy_plus_y2": "a**2 + a*b + b**2",
    "x2_plus_xy_plus_y2_plus_x": "a**2 + a*b + b**2 + a",
    "x3_plus_xy": "a**3 + a*b",
    "x3_plus_xy2_plus_y": "a**3 + a*b**2 + b",
    "div_if_odd_else_minus": "a / b if odd(b) else a - b",
    "plus_if_even_else_times": "a + b if even(a) else a * b",
    "plus_if_even_else_minus": "a + b if even(a) else a - b",
}
# Products as papers write them: 2xy^2 is (2*x*y**2), also after a division sign.
FACTOR = r"[abxy](?:\*\*[0-9]+)?"
PRODUCT = re.compile(rf"(?<![\w.])(?:[0-9]+{FACTOR}|{FACTOR}(?={FACTOR}))(?:{FACTOR})*(?![\w(])")
GROUP_NAMES = {"permutation": (5, "ab")}  # the AI-Scientist template's name of S_5
GROUP_WORDS = {"": "ab", "_conjugate": "abA", "_aba": "aba"}  # A is the inverse of a
GROUP = re.compile(r"s([1-9][0-9]*)(_[a-z]+)?")
LARGEST_GROUP = 6  # S_7 has 25 million pairs
LARGEST_MODULUS = 5000  # a table of 25 million rows
LONGEST_EXPRESSION = 200  # characters
HIGHEST_POWER = 100

Values = tuple[Tensor, Tensor]  # values (N,) modulo p, and whether each is defined (N,)


class OperationError(ValueError):
    """An operation that cannot be used; `key` is the config key at fault."""

    def __init__(self, key: str, message: str):
        super().__init__(message)
        self.key = key


@dataclass(frozen=True)
class Table:
    """An operation table: every row of operands with its label."""

    pairs: Tensor  # operands (N, 2), or (N, S) with S terms
    labels: Tensor  # (N,)
    elements: int  # number of different operands
    classes: int  # number of different labels


def table(operation: str, p: int, symmetric: bool = False) -> Table:
    """All (a, b, a∘b) of an operation, in row order; OperationError if there is none.

    operation: a name of NAMED, "s3" .. "s6" (also "s5_conjugate", a b a^-1, and "s5_aba"), or an
    expression in a and b, or x and y, modulo p. Pairs whose operation divides by zero are left out.
    symmetric: only pairs with a <= b.
    """
    group = group_of(operation)
    if group is None:
        if p > LARGEST_MODULUS:
            raise OperationError("p", f"expected at most {LARGEST_MODULUS}")
        pairs = torch.cartesian_prod(torch.arange(p), torch.arange(p))
        labels, defined = evaluate(NAMED.get(operation, operation), pairs[:, 0], pairs[:, 1], p)
        if not defined.any():
            raise OperationError("operation", "expected an operation that does not divide by zero")
        pairs, labels, elements = pairs[defined], labels[defined], p
    else:
        pairs, labels = _group_table(*group)
        elements = int(pairs.max()) + 1
    if symmetric:
        kept = pairs[:, 0] <= pairs[:, 1]
        pairs, labels = pairs[kept], labels[kept]
    return Table(pairs, labels, elements, elements)


def group_of(operation: str) -> tuple[int, str] | None:
    """(n, word) of an operation in S_n, None if it is not one; OperationError if S_n is too large."""
    if operation in GROUP_NAMES:
        return GROUP_NAMES[operation]
    match = GROUP.fullmatch(operation)
    if not match:
        return None
    n, kind = int(match[1]), match[2] or ""
    if kind not in GROUP_WORDS:
        raise OperationError(
            "operation", f"expected s{n}, s{n}_conjugate or s{n}_aba ({_near(operation)})"
        )
    if not 1 < n <= LARGEST_GROUP:
        raise OperationError("operation", f"expected a symmetric group of s2 to s{LARGEST_GROUP}")
    return n, GROUP_WORDS[kind]


def _group_table(n: int, word: str) -> tuple[Tensor, Tensor]:
    pairs, products = tables.symmetric_group(n)
    count = int(pairs.max()) + 1
    product = products.view(count, count)
    a, b = pairs.unbind(1)
    inverse = (product == 0).int().argmax(1)  # element 0 is the identity
    letters = {"a": a, "b": b, "A": inverse[a]}
    result = letters[word[0]]
    for letter in word[1:]:
        result = product[result, letters[letter]]
    return pairs, result


# -- expressions ---------------------------------------------------------------------------------


def evaluate(expression: str, a: Tensor, b: Tensor, p: int) -> tuple[Tensor, Tensor]:
    """Values (N,) of an expression modulo p, and where (N,) it is defined; OperationError if ill-formed.

    Python's + - * / and ** with a constant power, over a, b and whole numbers, brackets, and
    `X if odd(a) else Y`. x and y are other names of a and b, ^ is another sign for **, and a product
    needs no sign: x^2 + 2xy. It is parsed, never executed.
    """
    return _Evaluation(a, b, p).run(parse(expression))


@lru_cache
def parse(expression: str) -> ast.expr:
    """The syntax tree of an expression; OperationError if Python cannot parse it."""
    if len(expression) > LONGEST_EXPRESSION:
        raise OperationError("operation", f"expected at most {LONGEST_EXPRESSION} characters")
    try:
        return ast.parse(_with_signs(expression.strip()), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise OperationError("operation", _expected(expression)) from None


def _with_signs(expression: str) -> str:
    """The expression in Python's signs for powers and products."""

    def product(match: re.Match[str]) -> str:
        return f"({'*'.join(re.findall(rf'{FACTOR}|[0-9]+', match[0]))})"

    return PRODUCT.sub(product, expression.replace("^", "**"))


class _Evaluation:
    """Walks a syntax tree; every node gives values below p and where they are defined."""

    def __init__(self, a: Tensor, b: Tensor, p: int):
        self.names, self.p = {"a": a, "b": b, "x": a, "y": b}, p

    def run(self, node: ast.expr) -> tuple[Tensor, Tensor]:
        match node:
            case ast.Name(id=name) if name in self.names:
                return self.names[name] % self.p, torch.ones_like(
                    self.names[name], dtype=torch.bool
                )
            case ast.Constant(value=int(number)) if not isinstance(number, bool):
                like = self.names["a"]
                return torch.full_like(like, number % self.p), torch.ones_like(
                    like, dtype=torch.bool
                )
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                value, defined = self.run(operand)
                return -value % self.p, defined
            case ast.BinOp(left=left, op=ast.Pow(), right=ast.Constant(value=int(exponent))):
                if isinstance(exponent, bool) or not 0 <= exponent <= HIGHEST_POWER:
                    raise OperationError("operation", f"expected powers of 0 to {HIGHEST_POWER}")
                value, defined = self.run(left)
                return power(value, exponent, self.p), defined
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY:
                return self._binary(op, self.run(left), self.run(right))
            case ast.IfExp(test=test, body=body, orelse=other):
                condition, known = self._condition(test)
                (value, defined), (value2, defined2) = self.run(body), self.run(other)
                chosen = torch.where(condition, value, value2)
                return chosen, known & torch.where(condition, defined, defined2)
        raise OperationError("operation", _expected(ast.unparse(node)))

    def _binary(self, op: ast.operator, left: Values, right: Values) -> Values:
        (x, defined), (y, defined2) = left, right
        defined = defined & defined2
        if isinstance(op, ast.Div):
            if not is_prime(self.p):
                raise OperationError("p", "expected a prime, for division")
            defined = defined & (y != 0)
            y = power(y, self.p - 2, self.p)  # Fermat: y^(p-2) y = 1
        return _BINARY[type(op)](x, y) % self.p, defined

    def _condition(self, node: ast.expr) -> tuple[Tensor, Tensor]:
        match node:
            case ast.Call(func=ast.Name(id="odd" | "even" as kind), args=[argument], keywords=[]):
                value, defined = self.run(argument)
                return value % 2 == (1 if kind == "odd" else 0), defined
        raise OperationError("operation", _expected(ast.unparse(node)))


_BINARY: dict[type[ast.operator], Callable[[Tensor, Tensor], Tensor]] = {
    ast.Add: torch.add,
    ast.Sub: torch.sub,
    ast.Mult: torch.mul,
    ast.Div: torch.mul,
}


def power(base: Tensor, exponent: int, p: int) -> Tensor:
    """base^exponent modulo p, by squaring."""
    result = torch.ones_like(base) % p
    while exponent:
        if exponent & 1:
            result = result * base % p
        base, exponent = base * base % p, exponent >> 1
    return result


def is_prime(n: int) -> bool:
    """Whether n has no divisor but 1 and itself."""
    return n > 1 and all(n % d for d in range(2, int(n**0.5) + 1))


def _near(word: str) -> str:
    groups = [f"s{n}{kind}" for n in range(3, LARGEST_GROUP + 1) for kind in GROUP_WORDS]
    known = [*NAMED, *LIST_OPERATIONS, *GROUP_NAMES, *groups]
    near = near_match(word, known)
    return f"did you mean {near}?" if near else f"names: {', '.join(NAMED)}"


def _expected(found: str) -> str:
    hint = f"; {_near(found)}" if found.isidentifier() else f", not {found[:40]!r}"
    return f"expected a name, s3..s6, or an expression of a, b (or x, y), numbers, + - * / ** odd() even(){hint}"
