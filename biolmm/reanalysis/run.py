"""A reanalysis from its plan to a release: look, decide, compute the pieces that are missing, put them together, compare."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path

from biolmm.atomic import remove, saving
from biolmm.chunks import check_stop, threads
from biolmm.errors import named
from biolmm.memory import StagePlan
from biolmm.pipeline.config import AnalysisConfig
from biolmm.pipeline.preview import plan_only
from biolmm.reanalysis.assemble import Assembly
from biolmm.reanalysis.changes import compare
from biolmm.reanalysis.decide import Decision, decide
from biolmm.reanalysis.inventory import is_finished
from biolmm.reanalysis.lock import only_one
from biolmm.reanalysis.pieces import Piece, Work, plan_work
from biolmm.reanalysis.plan import Plan
from biolmm.reanalysis.release import LATEST, PIECES, Release, name_of, open_release, previous_of, releases
from biolmm.reanalysis.report import write_changes
from biolmm.reanalysis.state import Look, look
from biolmm.results.folder import now

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Prospect:
    """What a reanalysis would do now.

    Attributes
    ----------
    same
        A finished release of these very inputs and settings: there is nothing to do.
    name
        Of the release that would be made.
    seen, decision, work
        The inputs, what is done about each trait, and the pieces.
    previous, known
        The release before, and all releases.
    """

    same: Release | None
    name: str
    seen: Look
    decision: Decision
    work: Work
    previous: Release | None
    known: tuple[Release, ...]

    @property
    def missing(self) -> list[Piece]:
        """Pieces that are still to be computed."""
        return [piece for piece in self.work.pieces if not piece.is_finished]


@dataclass(frozen=True)
class Outcome:
    """What a reanalysis has done: the release of these inputs, and whether it was there already."""

    release: Release
    is_new: bool


def foresee(plan: Plan, config: AnalysisConfig) -> Prospect:
    """Look at the inputs and decide what a reanalysis would do; nothing is computed or written.

    Raises
    ------
    UserError
        For every mistake in the plan and the inputs but those of single traits.
    """
    known = releases(plan.out)
    previous = previous_of(plan, known)
    now_seen = look(config, plan.command)
    seen = now_seen
    if previous is not None and plan.model == "keep":
        seen = seen.with_model_of(previous.state.model)

    @cache
    def has_piece(name: str) -> bool:
        return is_finished(plan.out / PIECES / name)

    decision = decide(seen, previous, has_piece)
    if decision.everything:
        seen = now_seen  # a model that is made anew is made of all that there is
    candidates = [*known[-1:], *(release for release in known if release.name == plan.release)]
    same = next((release for release in candidates if release.state.key == seen.state.key), None)
    name = same.name if same is not None else name_of(plan, seen.state, known)
    work = plan_work(config, seen, decision, previous, plan.out)
    return Prospect(same, name, seen, decision, work, previous, tuple(known))


def reanalyse(plan: Plan, config: AnalysisConfig) -> Outcome:
    """Make the release that a plan asks for, from the last one as far as it goes.

    Parameters
    ----------
    plan
        The plan.
    config
        The analysis that it describes.

    Returns
    -------
    Outcome
        The release; traits that failed are in it with their reasons.

    Raises
    ------
    BusyError
        When another reanalysis is running there.
    UserError
        For every mistake in the plan and the inputs but those of single traits.
    Stopped
        When it was asked to stop, or inputs changed while it was at work; the same call continues.

    Notes
    -----
    A piece that was finished, or begun, by a reanalysis that did not end is found again by its name, which is a hash of what
    it depends on. The release's folder appears under its name when it is complete.
    """
    with only_one(plan.out, plan.path), threads(config.resources.threads):
        _remove_leftovers(plan.out)
        prospect = foresee(plan, config)
        if prospect.same is not None:
            log.info("nothing has changed since release %s", prospect.same.name)
            if prospect.same is prospect.known[-1]:
                _point_to(prospect.same.path)
            return Outcome(prospect.same, is_new=False)
        _say(prospect)
        for piece in prospect.missing:
            check_stop()
            piece.run(partial(_changed, plan, config, prospect.seen))
        check_stop()
        return Outcome(_publish(plan, config, prospect), is_new=True)


def _publish(plan: Plan, config: AnalysisConfig, prospect: Prospect) -> Release:
    """Build the release's folder aside, and give it its name."""
    aside, path = plan.out / f".{prospect.name}.partial", plan.out / prospect.name
    remove(aside)
    assembly = Assembly(config, prospect.seen, prospect.work, prospect.previous, plan.out, aside)
    run = assembly.build()
    previous = prospect.previous
    release = Release(
        path=aside,
        sequence=1 + max((each.sequence for each in prospect.known), default=0),
        state=prospect.seen.state,
        traits=prospect.work.traits,
        previous=None if previous is None else previous.name,
        why=prospect.decision.everything,
        finished=now(),
    )
    changes = compare(release, previous, config.scan.lead_window_bp)
    assembly.finish(run)
    release = replace(release, path=path)
    write_changes(aside, release, previous, changes)
    release.write(aside)
    with saving(path):
        aside.replace(path)
    _point_to(path)
    return open_release(path)


def _point_to(path: Path) -> None:
    """Make `latest` a link to a release."""
    latest, aside = path.with_name(LATEST), path.with_name(f".{LATEST}.partial")
    if latest.is_symlink() and latest.readlink() == Path(path.name):
        return
    with saving(latest):
        aside.unlink(missing_ok=True)
        aside.symlink_to(path.name)
        aside.replace(latest)


def _remove_leftovers(out: Path) -> None:
    """Remove what a process that was killed left half-written among releases and pieces; the lock is held."""
    with saving(out):
        for path in (*out.glob(".*.partial"), *(out / PIECES).glob(".*.partial")):
            if path.is_symlink():
                path.unlink()
            else:
                remove(path)


def _changed(plan: Plan, config: AnalysisConfig, seen: Look) -> str:
    """Say which inputs are not any more what they were when they were looked at; empty where all are."""
    found = look(config, plan.command)
    now_state, state = found.state, seen.state
    traits = [name for name in {**state.traits, **now_state.traits}
              if state.traits.get(name) != now_state.traits.get(name)]  # fmt: skip
    parts = {
        "genotypes": found.genotypes.scan.fingerprint != seen.genotypes.scan.fingerprint,
        "model genotypes": found.genotypes.model.fingerprint != seen.genotypes.model.fingerprint,
        "people": now_state.samples != state.samples,
        "covariates": (now_state.covariate_names, now_state.covariates) != (state.covariate_names, state.covariates),
        f"traits {named(traits)}": bool(traits),
    }
    same = replace(now_state, model=state.model).key == state.key  # the model may be that of earlier variants
    return ", ".join(name for name, differs in parts.items() if differs) or ("" if same else "inputs")


def _say(prospect: Prospect) -> None:
    """Log what is about to be done, and why."""
    before = "" if prospect.previous is None else f" after {prospect.previous.name}"
    log.info("release %s%s", prospect.name, before)
    if prospect.decision.everything:
        log.info("everything is computed: %s", "; ".join(prospect.decision.everything))
    for name, record in prospect.work.traits.items():
        level = logging.WARNING if record.status == "failed" else logging.INFO
        log.log(level, "trait %s: %s (%s)", name, record.status, record.why)


def stage_plans(prospect: Prospect) -> list[tuple[Piece, list[StagePlan]]]:
    """Return the plans of the stages of every piece that is missing; of scans with a known model none."""
    plans = []
    for piece in prospect.missing:
        found = [] if piece.command == "scan" else plan_only(piece.config, scan=piece.command == "gwas")
        plans.append((piece, found))
    return plans


def describe(prospect: Prospect, out: Path) -> str:
    """Say in lines what would be taken over and what computed, and why."""
    if prospect.same is not None:
        return f"nothing to do: nothing has changed since release {prospect.same.name} in {out}"
    before = "the first one" if prospect.previous is None else f"after {prospect.previous.name}"
    lines = [f"release {prospect.name} in {out}, {before}"]
    if prospect.decision.everything and prospect.previous is not None:
        lines.append(f"everything would be computed: {'; '.join(prospect.decision.everything)}")
    lines += [f"  {name}: {record.status} ({record.why})" for name, record in prospect.work.traits.items()]
    for piece in prospect.work.pieces:
        done = "there already" if piece.is_finished else "to compute"
        known = piece.config.known_model
        reuse = f", spectra of piece {known.name}" if known is not None else ""
        reuse += f", model of piece {piece.model.name}" if piece.model is not None else ""
        lines.append(f"  piece {piece.name} ({piece.label}, {len(piece.traits):,} traits): {done}{reuse}")
    return "\n".join(lines)
