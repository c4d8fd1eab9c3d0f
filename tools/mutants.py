"""The table of `make mutants`: killed and surviving mutants of each module, from mutmut's results.

Exits with 1 below 90 % killed, or if a survivor is not listed with its reason in tests/mutants.toml.
"""

import json
import sys
import tomllib
from collections import Counter
from pathlib import Path

from mutmut.mutation.diff_apply import get_diff_for_mutant
from mutmut.stats import status_by_exit_code

REQUIRED_PERCENT = 90
MUTANTS = Path("mutants")
ACCEPTED = Path("tests/mutants.toml")
KILLED = {"killed", "timeout", "segfault"}


def load_accepted() -> set[tuple[str, str, str]]:
    """The (module, original line, mutated line) of every survivor that has a reason."""
    entries = tomllib.loads(ACCEPTED.read_text()).get("survivor", [])
    assert all(entry["reason"] for entry in entries)
    return {
        (entry["module"], entry["original"], mutated)
        for entry in entries
        for mutated in entry["mutated"]
    }


def load_results() -> dict[str, dict[str, str]]:
    """Status of every mutant by its name, for each mutated module by its path."""
    results = {}
    for meta in sorted(MUTANTS.rglob("*.py.meta")):
        path = str(meta.relative_to(MUTANTS)).removesuffix(".meta")
        exit_codes = json.loads(meta.read_text())["exit_code_by_key"]
        if exit_codes:
            results[path] = {name: status_by_exit_code[code] for name, code in exit_codes.items()}
    return results


def changed_lines(mutant: str, module: str) -> tuple[str, str]:
    """The original and the mutated source of the lines in which a mutant differs."""
    diff = get_diff_for_mutant(mutant, path=module).splitlines()[2:]
    original, mutated = (
        " ".join(line[1:].strip() for line in diff if line.startswith(sign)) for sign in "-+"
    )
    return original, mutated


def main() -> int:
    """Print the survivors without a reason and the table; return the exit code."""
    accepted, results = load_accepted(), load_results()
    unexplained = 0
    for module, statuses in results.items():
        for mutant, status in statuses.items():
            if status not in KILLED and (module, *changed_lines(mutant, module)) not in accepted:
                unexplained += 1
                original, mutated = changed_lines(mutant, module)
                print(f"{mutant}: {status}\n  - {original}\n  + {mutated}")

    print(f"{'module':36}{'mutants':>8}{'killed':>8}{'survived':>10}{'percent':>9}")
    counts = {
        module: Counter(status in KILLED for status in statuses.values())
        for module, statuses in results.items()
    }
    total = sum(counts.values(), Counter())
    for module, count in {**counts, "all": total}.items():
        percent = 100 * count[True] / count.total()
        print(f"{module:36}{count.total():8}{count[True]:8}{count[False]:10}{percent:9.1f}")
    print(f"{unexplained} survivors are not listed in {ACCEPTED}")
    enough = 100 * total[True] >= REQUIRED_PERCENT * total.total()
    return 0 if enough and not unexplained else 1


if __name__ == "__main__":
    sys.exit(main())
