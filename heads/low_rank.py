"""Dense layers whose kernel is the product of two thin ones (Girshick 2015, section 3.1)."""

from collections.abc import Mapping

import keras
from keras import layers, ops


@keras.saving.register_keras_serializable("zoo")
class LowRankDense(keras.layers.Layer):
    """``activation(x @ first @ second + bias)``: a dense layer of rank at most ``rank``.

    Of a kernel of u x v numbers t (u + v) are left, and as many multiplications.

    Args:
        units: v, outputs.
        rank: t, from 1 to the lesser of u and v.
        activation: as of a dense layer.
        use_bias: whether there is a bias; as in the paper, behind the second product only.

    Call:
        ``(..., u)`` gives ``(..., v)``.

    Example:
        >>> LowRankDense(4096, rank=1024, activation="relu", name="fc6").compute_output_shape((None, 25088))
        (None, 4096)
    """

    def __init__(
        self,
        units: int,
        rank: int,
        activation=None,
        use_bias: bool = True,
        name: str | None = None,
        dtype=None,
        trainable: bool = True,
    ):
        super().__init__(name=name, dtype=dtype, trainable=trainable)
        self.units, self.rank, self.use_bias = int(units), int(rank), bool(use_bias)
        self.activation = keras.activations.get(activation)

    def build(self, input_shape):
        """Create ``first (u, t)``, ``second (t, v)`` and ``bias (v,)``."""
        width = int(input_shape[-1])
        if not 1 <= self.rank <= min(width, self.units):
            raise ValueError(
                f"{self.name}: rank {self.rank} of a kernel of {width} x {self.units}; give 1 to "
                f"{min(width, self.units)}"
            )
        self.first = self.add_weight(shape=(width, self.rank), initializer="he_normal", name="first")
        self.second = self.add_weight(shape=(self.rank, self.units), initializer="glorot_normal", name="second")
        self.bias = self.add_weight(shape=(self.units,), initializer="zeros", name="bias") if self.use_bias else None
        self.built = True

    def call(self, x):
        """Two products, then bias and activation."""
        x = ops.matmul(ops.matmul(x, self.first), self.second)
        return self.activation(x if self.bias is None else ops.add(x, self.bias))

    def compute_output_shape(self, input_shape):
        """``(..., v)``."""
        return (*input_shape[:-1], self.units)

    def get_config(self):
        """Arguments of ``__init__``."""
        activation = keras.activations.serialize(self.activation)
        own = {"units": self.units, "rank": self.rank, "activation": activation, "use_bias": self.use_bias}
        return {**super().get_config(), **own}


def with_rank(layer: keras.layers.Layer, rank: int) -> keras.layers.Layer:
    """A dense layer (or one of low rank already) as one of rank ``rank``, not built yet.

    Example:
        >>> with_rank(keras.layers.Dense(8, "relu", name="fc7"), 2).get_config()["rank"]
        2
    """
    return LowRankDense(
        layer.units, rank, layer.activation, layer.use_bias, layer.name, layer.dtype_policy, layer.trainable
    )


def with_ranks(body: keras.Model, ranks: Mapping[str, int]) -> keras.Model:
    """A model with its dense layers of these names replaced by ones of low rank, their weights new.

    Args:
        body: a functional or sequential model; it is given back itself if nothing is to be replaced.
        ranks: rank by layer name; a layer that has the rank already stays.
    """
    known = dense_layers(body)
    unknown = [name for name in ranks if name not in known]
    if unknown:
        has = f"it has {', '.join(known)}" if known else "it has none"
        raise ValueError(f"ranks: {body.name} has no dense layer {', '.join(unknown)}; {has}")
    changed = {name: rank for name, rank in ranks.items() if getattr(known[name], "rank", None) != rank}
    if not changed:
        return body

    def clone(layer):
        if layer.name in changed:
            return with_rank(layer, changed[layer.name])
        return type(layer).from_config(layer.get_config())

    return keras.models.clone_model(body, clone_function=clone)


def dense_layers(model: keras.Model) -> dict[str, keras.layers.Layer]:
    """The dense layers of a model, of low rank or not, by name, from input to output."""
    return {each.name: each for each in model.layers if isinstance(each, layers.Dense | LowRankDense)}
