"""What becomes of labels of -1 (uncertain): one policy for all findings, or one for each.

ignore, zero and one are U-Ignore, U-Zeros and U-Ones of Irvin et al. 2019 (CheXpert),
https://arxiv.org/abs/1901.07031; soft is U-Ones+LSR of Pham et al. 2021, https://arxiv.org/abs/1911.06475:
a number between 0.55 and 0.85 for the loss, and unknown to whatever counts, splits, decides or scores.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, cast, get_args

import numpy as np
from numpy.typing import NDArray

from hilum.errors import ConfigError
from hilum.find import did_you_mean
from hilum.records.defects import Defects, listed

Policy = Literal["refuse", "ignore", "zero", "one", "soft"]
POLICIES: tuple[Policy, ...] = get_args(Policy)

LOW, HIGH = 0.55, 0.85
"""Between these lie soft labels (Pham et al. 2021)."""

_REST = ""
PUBLISHED: dict[str, dict[str, Policy]] = {
    # Irvin et al. chose U-Ones for these two of their five findings. For the other three they trained on a
    # third class or on a model's own labels, which no policy here does: they are unknown.
    "irvin2019": {_REST: "ignore", "Atelectasis": "one", "Edema": "one"},
    # LoVT's U_diff (philip-mueller/lovt); each of its five findings is named.
    "lovt": {
        "Atelectasis": "one",
        "Cardiomegaly": "zero",
        "Consolidation": "zero",
        "Edema": "one",
        "Pleural Effusion": "one",
    },
}
"""Policies per finding that were published, by the name they go by; an empty finding is all others."""


@dataclass(frozen=True)
class Changed:
    """How many labels of a finding were uncertain in a file, and the policy that they went by."""

    finding: str
    policy: Policy
    labels: int


@dataclass(frozen=True)
class Policies:
    """The policy of every finding: of those that are named, and of the rest."""

    named: Mapping[str, Policy]
    """Those that the user named himself."""
    published: Mapping[str, Policy]
    rest: Policy

    @classmethod
    def of(cls, words: str | Sequence[str]) -> "Policies":
        """Reads `ignore`, `Edema=one`, a published map, or several of these; no word at all is `refuse`.

        A finding that is named goes before the published map, and that before the policy of the rest.

        Raises:
            ConfigError: a word is none of these, or two contradict each other.
        """
        named: dict[str, Policy] = {}
        rest: list[str] = []
        maps: list[str] = []
        for word in [words] if isinstance(words, str) else words:
            finding, _, policy = word.rpartition("=")
            if word in POLICIES:
                rest.append(word)
            elif word in PUBLISHED:
                maps.append(word)
            elif not finding or policy not in POLICIES:
                raise ConfigError(_no_policy(word, finding, policy if finding else word))
            elif named.setdefault(finding, policy) != policy:
                raise ConfigError(
                    f"--uncertain: {finding!r} is given {named[finding]} and {policy}; keep one"
                )
        for found in (rest, maps):
            if len(set(found)) > 1:
                raise ConfigError(
                    f"--uncertain {' '.join(found)}: expected one of these for all findings; "
                    f"for a finding of its own say --uncertain {found[0]} FINDING=zero"
                )
        published = PUBLISHED[maps[0]] if maps else {}
        return cls(named, published, cast(Policy, rest[0]) if rest else published.get(_REST, "refuse"))

    def __getitem__(self, finding: str) -> Policy:
        return self.named.get(finding, self.published.get(finding, self.rest))

    def check(self, known: Iterable[str], defects: Defects) -> None:
        """Findings that are named but not there become defects; a published map may name more."""
        there = list(known)
        for finding in self.named:
            if finding not in there:
                near = did_you_mean(finding, there) or f"; there are {listed(there) or 'none'}"
                defects.add(
                    "settings",
                    f"--uncertain {finding}={self.named[finding]}: there is no finding {finding!r}{near}",
                )


def soft_labels(images: Iterable[str], finding: str) -> NDArray[np.float32]:
    """A label between 0.55 and 0.85 for every image: a hash of its path and the finding, so always the same.

    >>> bool((soft_labels(["a.png", "b.png"], "Edema")[1:] == soft_labels(["b.png"], "Edema")).all())
    True
    """
    drawn = [
        hashlib.blake2b(f"{finding}\0{image}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
        for image in images
    ]
    shares = np.frombuffer(b"".join(drawn), "<u8") / 2.0**64
    return (LOW + (HIGH - LOW) * shares).astype(np.float32)


def _no_policy(word: str, finding: str, policy: str) -> str:
    known = POLICIES if finding else (*POLICIES, *PUBLISHED)
    other = "" if finding else ", or FINDING=POLICY"
    near = did_you_mean(policy, known)
    return (
        f"--uncertain {word}: {policy!r} is no policy{near}{'' if near else ';'} "
        f"{'E' if near else 'e'}xpected one of {', '.join(known)}{other}"
    )
