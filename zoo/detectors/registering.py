"""How a detector on a backbone is registered: its options are the assembling function's and the backbone's."""

import inspect
from collections.abc import Callable, Mapping, Sequence

import keras

from zoo.backbones.inputs import input_convention
from zoo.backbones.parts import DetectorParts
from zoo.detectors.preprocessing import Preprocessing
from zoo.published import published_weights
from zoo.registry import register
from zoo.shipped import shipped_weights


def register_detector(
    assemble: Callable[..., keras.Model],
    backbone: Callable[..., DetectorParts],
    name: str,
    summary: str,
    params: int,
    *,
    paper: str,
    source: str,
    defaults: Mapping[str, object],
    base: str = "",
    preprocessing: str = "",
) -> Callable[..., keras.Model]:
    """Register a detector, and give its builder.

    Args:
        assemble: makes the detector of a name, parts and classes; its named options become the detector's.
        backbone: gives the parts; so do its options.
        name: of the detector.
        summary: one line for people.
        params: number of parameters with default options.
        paper: which it follows.
        source: where its constants come from.
        defaults: where an option's default is another one here.
        base: the classifier that it is built on, where its name does not tell.
        preprocessing: what it does to images, where that is not Fast R-CNN's.
    """
    signature = _signature(assemble, backbone, defaults)

    def builder(classes: Sequence[str] | None = None, **given) -> keras.Model:
        # What users see and `register` checks is the signature: an option that it does not hold is an error here.
        chosen = signature.bind(classes, **given)
        chosen.apply_defaults()
        options = {key: value for key, value in chosen.arguments.items() if key != "classes"}
        own = {key: options.pop(key) for key in inspect.signature(backbone).parameters}
        return assemble(name, backbone(**own), classes, **options)

    builder.__name__ = builder.__qualname__ = name
    builder.__module__ = assemble.__module__
    builder.__signature__ = signature
    builder.__doc__ = f"{summary}; see :func:`{assemble.__module__}.{assemble.__name__}` for the options."
    return register(
        task="detection",
        paper=paper,
        summary=summary,
        params=params,
        input="RGB 0-255, any size",
        preprocessing=preprocessing or Preprocessing().describe(),
        source=source,
        weights=shipped_weights(name) + published_weights(name),
        base=base,
    )(builder)


def prepared_by(inputs: str, short: int, long: int, rounding: str) -> Preprocessing:
    """The layer that prepares images as the weights of ``inputs`` want them."""
    colours = input_convention(inputs)
    return Preprocessing(short, long, colours.mean, colours.std, colours.order, rounding, name="preprocessing")


def _signature(
    assemble: Callable[..., keras.Model], backbone: Callable[..., DetectorParts], defaults: Mapping[str, object]
) -> inspect.Signature:
    """``classes``, then the options of both."""
    either = inspect.Parameter.POSITIONAL_OR_KEYWORD
    classes = inspect.Parameter("classes", either, default=None, annotation=Sequence[str] | None)
    whole = inspect.signature(assemble)
    shared = [p for p in whole.parameters.values() if p.kind is p.KEYWORD_ONLY]
    own = list(inspect.signature(backbone).parameters.values())
    options = [p.replace(default=defaults.get(p.name, p.default), kind=p.KEYWORD_ONLY) for p in shared + own]
    unknown = defaults.keys() - {p.name for p in options}
    if unknown:
        raise TypeError(f"defaults for options that there are not: {', '.join(sorted(unknown))}")
    return inspect.Signature([classes, *options], return_annotation=whole.return_annotation)
