"""Architecture search in your own tuner of Ray Tune: a searcher, a trainable and its configurations."""

from nas.errors import UserError

try:
    from nas.ray.tune.sampling import param_space
    from nas.ray.tune.searcher import Searcher
    from nas.ray.tune.trainable import Trainable
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] != "ray":
        raise
    raise UserError(f"nas.tune needs the package ray: pip install 'ray[tune]'. Got {error}.") from None

__all__ = ["Searcher", "Trainable", "param_space"]
