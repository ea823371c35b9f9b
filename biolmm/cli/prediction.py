"""`biolmm predict`: genetic values and SNP effects of a model, scores of other people, cross-validated accuracy."""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from biolmm.cli.options import output, reading, resources
from biolmm.cli.root import cli
from biolmm.cli.shared import PATH, budget_bytes, check_files, listed_samples, open_genotypes, print_plans, working
from biolmm.cli.where import cluster_option

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from biolmm.genotypes.standardised import StandardisedGenotypes
    from biolmm.genotypes.weights import VariantWeights
    from biolmm.reml.model import NullModel
    from biolmm.store.data import GenotypeData


@cli.command()
@click.argument("genotypes", type=PATH, nargs=-1)
@click.option("--model", type=PATH, metavar="FOLDER", help="A model that fit or gwas wrote: its weights are computed.")
@click.option("--weights", type=PATH, metavar="FOLDER", help="Weights that predict wrote before, instead of --model.")
@click.option(
    "--folds",
    type=int,
    default=0,
    metavar="K",
    help="Measure the accuracy of --model by cross-validation in K folds, families in one fold.",
)
@click.option("--refit-h2", is_flag=True, help="Estimate the heritability anew without each fold.")
@click.option("--ignore-families", is_flag=True, help="Deal people to folds whatever their family ids are.")
@reading
@click.option("--keep", type=PATH, metavar="FILE", help="Score only the samples listed.")
@click.option("--remove", type=PATH, metavar="FILE", help="Do not score the samples listed.")
@output
@resources
@cluster_option
def predict(**options: Any) -> None:
    """Predict genetic values and SNP effects from a model, and score the people of GENOTYPES (a store or files)."""
    from biolmm.chunks import threads

    _check(options)
    with threads(options["threads"]):
        if options["model"]:
            _from_model(options)
        else:
            _from_weights(options)


def _check(options: dict[str, Any]) -> None:
    """Refuse what does not go together."""
    from biolmm.errors import ParameterError

    if bool(options["model"]) == bool(options["weights"]):
        raise ParameterError("give either --model, a fitted model, or --weights, which predict wrote before.")
    if options["weights"] and not options["genotypes"]:
        raise ParameterError("--weights needs GENOTYPES: a store or files with the people to be scored.")
    if options["weights"] and options["folds"]:
        raise ParameterError("--folds needs --model: weights alone cannot be fitted anew.")
    if (options["keep"] or options["remove"]) and not options["genotypes"]:
        raise ParameterError("--keep and --remove choose among the people of GENOTYPES, and none were given.")


def _from_model(options: dict[str, Any]) -> None:
    """Compute weights, and with them whatever else is asked for."""
    from biolmm.errors import OutputError
    from biolmm.prediction.blup import blup, model_genotypes
    from biolmm.prediction.files import FILES, PREDICT_JSON, write_blup, write_record
    from biolmm.prediction.plan import plan_prediction
    from biolmm.reml.model import open_model, open_model_store
    from biolmm.results.folder import claim_folder
    from biolmm.stages import content_hash

    model = open_model(options["model"])
    data = open_model_store(model)
    out, memory = options["out"], budget_bytes(options["memory"])
    if model.folder is not None and out.resolve() in (model.folder.resolve(), model.folder.resolve().parent):
        raise OutputError(f"'{out}' holds the model that is used: choose another --out.")
    fold = _folds(model, data, options) if options["folds"] else None
    scored = _Scored.open(options) if options["genotypes"] else None
    plan = plan_prediction(model, data, options["folds"])
    if options["plan"]:
        print_plans([plan], options["memory"])
        return
    plan.check(memory)
    about = [] if scored is None else [scored.data.fingerprint, scored.samples.tobytes()]
    asked = (options["folds"], options["refit_h2"], options["ignore_families"], options["seed"])
    key = content_hash(model.dataset["solution"].values.tobytes(), data.fingerprint, *about, asked)
    claim_folder(out, PREDICT_JSON, key, FILES, overwrite=options["overwrite"])
    spare = max(0, memory - plan.peak_bytes)
    with working():
        genotypes = model_genotypes(model, data, spare)
        found = blup(model, genotypes)
        warnings = write_blup(found, model.cohort().sample_id, out)
        record = _record(options, key, found.weights)
        if fold is not None:
            _accuracy(model, genotypes, fold, options, spare)
        if scored is not None:
            record["scores"], more = scored.write(found.weights, out)
            warnings += more
        write_record(out, {**record, "warnings": warnings})
    click.echo(f"{out}: weights of {found.weights.variants.n:,} variants for {len(found.weights.names):,} traits")


def _from_weights(options: dict[str, Any]) -> None:
    """Score people with weights that are there."""
    from biolmm.genotypes.weights import plan_weights
    from biolmm.prediction.files import FILES, PREDICT_JSON, read_effects, write_record
    from biolmm.results.folder import claim_folder
    from biolmm.stages import content_hash

    weights = read_effects(options["weights"])
    scored = _Scored.open(options)
    plan = plan_weights(scored.data, len(scored.samples), weights.variants.n, len(weights.names), "scores")
    if options["plan"]:
        print_plans([plan], options["memory"])
        return
    plan.check(budget_bytes(options["memory"]))
    _refuse_weights_folder(options)
    key = content_hash(scored.data.fingerprint, weights.digest(), scored.samples.tobytes())
    claim_folder(options["out"], PREDICT_JSON, key, FILES, overwrite=options["overwrite"])
    with working():
        scores, warnings = scored.write(weights, options["out"])
        write_record(options["out"], {**_record(options, key, weights), "scores": scores, "warnings": warnings})


def _refuse_weights_folder(options: dict[str, Any]) -> None:
    """Keep the weights that are used from being replaced by their own scores."""
    from biolmm.errors import OutputError

    used: Path = options["weights"].resolve()
    if options["out"].resolve() in (used, used.parent if used.is_file() else used):
        raise OutputError(f"'{options['out']}' holds the weights that are used: choose another --out.")


@dataclass(frozen=True)
class _Scored:
    """The people of GENOTYPES who are to be scored."""

    data: GenotypeData
    samples: NDArray[np.int64]

    @classmethod
    def open(cls, options: dict[str, Any]) -> _Scored:
        """Open the genotypes and choose by the lists."""
        data = open_genotypes(options["genotypes"], options)
        return cls(data, listed_samples(data, options))

    def write(self, weights: VariantWeights, out: Path) -> tuple[dict[str, Any], list[str]]:
        """Apply weights and write `scores.tsv`; return what the record says of it, and warnings."""
        from biolmm.prediction.files import write_scores

        applied = weights.apply(self.data, self.samples)
        check_files(self.data)
        about, warnings = write_scores(weights, applied, self.data.sample_id[self.samples], out)
        counts = applied.matched.counts
        click.echo(f"{out / 'scores.tsv'}: {len(self.samples):,} samples, {counts['matched']:,} of "
                   f"{counts['wanted']:,} variants ({counts['swapped']:,} with alleles swapped)")  # fmt: skip
        return {**about, "genotypes": str(self.data.path), "fingerprint": self.data.fingerprint}, warnings


def _folds(model: NullModel, data: GenotypeData, options: dict[str, Any]) -> NDArray[np.int64]:
    """Deal the model's people to folds."""
    from biolmm.prediction.folds import assign_folds

    cohort = model.cohort()
    families = data.family_id[cohort.sample_index].tolist()
    if options["ignore_families"]:
        families = ["0"] * len(families)
    return assign_folds(cohort.sample_id.tolist(), families, options["folds"], options["seed"])


def _accuracy(
    model: NullModel,
    genotypes: StandardisedGenotypes,
    fold: NDArray[np.int64],
    options: dict[str, Any],
    memory: int,
) -> None:
    """Cross-validate and print the table."""
    from biolmm.genotypes.operator import GenotypeOperator
    from biolmm.prediction.accuracy import cross_validate
    from biolmm.prediction.files import write_accuracy

    operator = GenotypeOperator(genotypes)
    found = cross_validate(model, operator, fold, refit=options["refit_h2"], memory_bytes=max(memory // 4, 2**27))
    write_accuracy(found, model.cohort().sample_id, model.cohort().trait_names, options["out"])
    columns = ["trait", "n", "r2", "r2_se", "slope", "slope_se", "h2", "reliability"]
    click.echo(found.accuracy[columns].to_string(index=False, float_format=lambda value: f"{value:.4f}"))


def _record(options: dict[str, Any], key: str, weights: VariantWeights) -> dict[str, Any]:
    names = ("model", "weights", "folds", "refit_h2", "ignore_families", "seed")
    return {
        "command": shlex.join(["biolmm", *sys.argv[1:]]), "key": key,
        "parameters": {name: options[name] for name in names}, "traits": list(weights.names),
        "variants_with_weights": weights.variants.n,
        "offset": dict(zip(weights.names, weights.extra["offset"], strict=True)),
    }  # fmt: skip
