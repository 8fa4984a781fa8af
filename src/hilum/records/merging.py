"""Tables of several sites made one: patients kept apart, findings in the ontology's words."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from hilum.errors import ConfigError, RecordsError
from hilum.find import did_you_mean
from hilum.records.columns import PARTS
from hilum.records.defects import SHOWN, listed
from hilum.records.harmonise import Contradiction, State, contradictions, fill_parents, renamed, states
from hilum.records.matching import meaning
from hilum.records.overlap import dataset_of
from hilum.records.table import Records


@dataclass(frozen=True)
class Harmonised:
    """One finding of the merged table, and what was done for it."""

    finding: str
    sites: tuple[str, ...]
    """Those whose table has a column of it."""
    renamed: Mapping[str, str]
    """The name that it had there, by site, where it was another."""
    positive: int
    negative: int
    uncertain: int
    unknown: int
    filled: int
    """Labels that came from narrower findings; they are counted above too."""
    contradictions: int
    """Films on which it is positive against another label; see there."""


@dataclass(frozen=True)
class Merged:
    """The merged table, and what was changed on the way."""

    records: Records
    findings: tuple[Harmonised, ...]
    contradictions: tuple[Contradiction, ...]
    """Of all findings of all tables, before anything was filled. Nothing was changed because of them."""
    left_out: tuple[str, ...]
    """Findings that not every table has, where only common ones were asked for."""

    def lines(self) -> list[str]:
        """The changes as text."""
        text = []
        for one in self.findings:
            text.append(
                f"{one.finding}: {one.positive:,} positive, {one.negative:,} negative, {one.uncertain:,} "
                f"uncertain, {one.unknown:,} unknown; columns of {', '.join(one.sites)}"
            )
            text += [f"  was {name!r} in {site}" for site, name in one.renamed.items()]
            text += [f"  {one.filled:,} of them from narrower findings"] * bool(one.filled)
        if self.left_out:
            text.append(f"left out, since not every table has them: {', '.join(self.left_out)}")
        for pair in self.contradictions:
            text.append(f"contradiction: {pair.text}, such as {pair.examples[0]}")
        return text

    def facts(self) -> dict[str, Any]:
        """The changes as JSON keeps them."""
        return {
            "radiographs": len(self.records),
            "patients": len(set(self.records.patients)),
            "sites": Counter(self.records.table["site"].tolist()),
            "findings": [asdict(one) for one in self.findings],
            "left_out": self.left_out,
            "contradictions": [asdict(one) for one in self.contradictions],
        }


def merge(
    tables: Mapping[str, Records],
    *,
    common: bool = False,
    fill: bool = True,
    complete: Sequence[str] = (),
    match: Mapping[str, str] | None = None,
) -> Merged:
    """One table of several.

    Patients, and studies where there are any, get the site's name before their own, so that equal names of
    two sites stay two patients. Splits stay as they are. What a table has no column for is unknown.

    Args:
        tables: each with its site's name. A table's own sites are kept behind it, `nih/A`, unless they are
            another name for it.
        common: only findings that every table has a column of; all that any has otherwise.
        fill: whether unknown wider findings are filled in from narrower ones; see `fill_parents`.
        complete: as there, of all tables or, as in `nih=Lung Opacity`, of one.
        match: names that the user gives to findings before the ontology does.

    Raises:
        ConfigError: a setting names what is not there.
        RecordsError: two tables have one image, or two columns of one table would be one finding.
    """
    _refuse_twice(tables)
    _check_match(match or {}, tables)
    named = {site: renamed(records, match) for site, records in tables.items()}
    same = _one_spelling([records.findings for records, _ in named.values()])
    parts, changes = {}, {}
    for site, (records, changed) in named.items():
        again = {name: same[name] for name in records.findings if same[name] != name}
        parts[site] = _of_site(_renamed(records, again), site)
        changes[site] = {again.get(new, new): old for old, new in changed.items()}
        changes[site] |= {new: old for old, new in again.items() if old not in changed.values()}
    findings = list(dict.fromkeys(name for records in parts.values() for name in records.findings))
    whole = {site: _with_all(records, findings) for site, records in parts.items()}
    # Before anything is filled: a wider finding that follows from a wrong one would be named a second time.
    wrong = contradictions(_stacked(list(whole.values()), findings))
    filled: Counter[str] = Counter()
    asked = _by_site(complete, tables)
    for site, records in whole.items() if fill else ():
        whole[site], counts = fill_parents(records, complete=asked.get(site, ()))
        filled.update(counts)
    records = _stacked(list(whole.values()), findings)
    kept = [name for name in findings if not common or all(name in one.findings for one in parts.values())]
    if not kept:
        raise RecordsError(f"the tables have no finding in common; they have {listed(findings) or 'none'}")
    found = states(records)
    harmonised = []
    for name in kept:
        column = found[:, findings.index(name)]
        positive, negative, uncertain, unknown = (int((column == state).sum()) for state in State)
        harmonised.append(
            Harmonised(
                name,
                tuple(site for site, one in parts.items() if name in one.findings),
                {site: old[name] for site, old in changes.items() if name in old},
                positive=positive,
                negative=negative,
                uncertain=uncertain,
                unknown=unknown,
                filled=filled[name],
                contradictions=sum(pair.films for pair in wrong if pair.finding == name),
            )
        )
    left_out = tuple(name for name in findings if name not in kept)
    return Merged(_only(records, kept), tuple(harmonised), wrong, left_out)


def _refuse_twice(tables: Mapping[str, Records]) -> None:
    first: dict[str, str] = {}
    twice = []
    for site, records in tables.items():
        images = records.table["image"].tolist()
        twice += [(image, first[image], site) for image in images if image in first]
        first |= dict.fromkeys(images, site)
    if twice:
        some = "".join(f"\n  {image}: in {one} and {other}" for image, one, other in twice[:SHOWN])
        rest = f"\n  and {len(twice) - SHOWN:,} more" if len(twice) > SHOWN else ""
        raise RecordsError(
            f"{len(twice):,} images are in two tables; take them out of one, since their labels can differ"
            f"{some}{rest}"
        )


def _check_match(match: Mapping[str, str], tables: Mapping[str, Records]) -> None:
    known = [name for records in tables.values() for name in records.findings]
    for name in match:
        if name not in known:
            near = did_you_mean(name, known) or f"; there are {listed(dict.fromkeys(known))}"
            raise ConfigError(f"--match {name}={match[name]}: no table has a finding {name!r}{near}")


def _by_site(complete: Sequence[str], tables: Mapping[str, Records]) -> dict[str, list[str]]:
    asked: dict[str, list[str]] = {site: [] for site in tables}
    for word in complete:
        site, equals, wide = word.partition("=")
        if equals and site not in tables:
            near = did_you_mean(site, tables) or f"; sites are {listed(tables)}"
            raise ConfigError(f"--complete {word}: there is no site {site!r}{near}")
        for one in [site] if equals else tables:
            asked[one].append(wide if equals else word)
    return asked


def _one_spelling(findings: Sequence[Sequence[str]]) -> dict[str, str]:
    """The first spelling of every finding; the ontology's own is always the first."""
    first: dict[str, str] = {}
    return {name: first.setdefault(meaning(name), name) for some in findings for name in some}


def _renamed(records: Records, names: Mapping[str, str]) -> Records:
    findings = tuple(names.get(name, name) for name in records.findings)
    return replace(records, table=records.table.rename(columns=dict(names)), findings=findings)


def _of_site(records: Records, site: str) -> Records:
    table = records.table
    own = table["site"] if "site" in table else pd.Series("", index=table.index, dtype="str")
    same = {cell: dataset_of(cell) is not None and dataset_of(cell) == dataset_of(site) for cell in set(own)}
    sites = [f"{site}/{cell}" if cell and not same[cell] else site for cell in own]
    table = table.assign(site=pd.Series(sites, dtype="str"), patient=f"{site}/" + table["patient"])
    if "study" in table:
        table["study"] = [f"{site}/{cell}" if cell else "" for cell in table["study"]]
    return replace(records, table=table)


def _with_all(records: Records, findings: Sequence[str]) -> Records:
    places = [records.findings.index(name) if name in records.findings else -1 for name in findings]
    nothing = np.full((len(records), 1), np.nan, np.float32)
    labels = np.hstack([records.labels, nothing])[:, places]
    soft = np.full(labels.shape, np.nan, np.float32)
    if records.soft is not None:
        soft = np.hstack([records.soft, nothing])[:, places]
    text = records.table.drop(columns=list(records.findings))
    table = pd.concat([text, pd.DataFrame(labels, columns=list(findings))], axis=1)
    return replace(records, table=table, findings=tuple(findings), soft=soft)


def _stacked(parts: Sequence[Records], findings: Sequence[str]) -> Records:
    table = pd.concat([one.table for one in parts], ignore_index=True)
    texts = [part for part in PARTS if part in table]
    table = table[[*texts, *findings]]
    table[texts] = table[texts].fillna("").astype("str")
    soft = np.concatenate([one.soft for one in parts if one.soft is not None])
    return Records(table, tuple(findings), soft)


def _only(records: Records, kept: Sequence[str]) -> Records:
    places = [records.findings.index(name) for name in kept]
    table = records.table.drop(columns=[name for name in records.findings if name not in kept])
    soft = None if records.soft is None else records.soft[:, places]
    if soft is not None and np.isnan(soft).all():
        soft = None
    return replace(records, table=table, findings=tuple(kept), soft=soft)
