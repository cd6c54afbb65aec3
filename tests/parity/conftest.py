"""What the parity tests compare graphs with."""

import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from crmend._light import MESH, find_light
from crmend._normalise import measure_scale


@pytest.fixture
def whole_frame():
    """Return what runs a network over a frame: whole_frame(network, image, views=1)."""
    return _whole_frame


def _whole_frame(network, image, views=1):
    """Run a network over a frame in one go, by numpy and torch alone."""
    import torch

    quarters = {1: (0,), 2: (0, 2), 4: (0, 1, 2, 3)}[views]
    nothing = np.zeros(image.shape, bool)
    scale = measure_scale(image, nothing)
    x = (image.astype(np.float64) - scale.background) / scale.noise
    light = find_light(image, nothing, scale)
    if light is not None:
        places = np.meshgrid(*((np.arange(n) + 0.5) / MESH - 0.5 for n in image.shape))
        level = map_coordinates(light.levels, places, order=1, mode="nearest").T
        x = (x - level) / np.sqrt(1.0 + light.photons * level)
    x = np.arcsinh(x / 3.0)
    padded = np.pad(x, [(0, -n % network.stride) for n in image.shape], mode="reflect")
    seen = torch.from_numpy(padded.astype(np.float32))[None, None]
    with torch.inference_mode():
        found = [
            torch.rot90(network(torch.rot90(seen, k, (2, 3))), -k, (2, 3)) for k in quarters
        ]
    if views > 1:
        found = [torch.sigmoid(sum(torch.logit(p, 1e-6) for p in found) / views)]
    return found[0][0, 0].numpy()[: image.shape[0], : image.shape[1]]
