"""What is said of files with several chips."""

import json
from dataclasses import replace
from pathlib import Path

from crmend._provenance import Provenance, combine
from crmend._report import ChipReport, FrameReport


def test_chips_may_differ_in_threshold():
    models = {"detect_model": "m", "detect_sha256": "0", "inpaint_model": None}
    counts = {"cr_pixels": 3, "cr_events": 2, "cr_rate": None, "sources_touched": 0}
    counts |= {"star_pixels_added": None, "star_pixels_freed": None, "rim_pixels_added": 0}
    chips = tuple(
        ChipReport(
            extver=n, detector=None, band=None, shape=(10, 10), stages={"read": 0.5},
            provenance=Provenance(
                version="0", **models, **counts, inpaint_sha256=None, threshold=0.3 * n,
                seed_threshold=None if n == 1 else 0.9, views=2 * n - 1, provider="CPU",
                pixels_network=1, pixels_median=2, seconds=1.0,
            ),
        )
        for n in (1, 2)
    )  # fmt: skip
    report = FrameReport(Path("a.fits"), chips, outputs={}, stages={"write": 0.25})
    answer = json.loads(json.dumps(report.as_dict(), allow_nan=False))
    assert answer["total"]["threshold"] is None
    assert answer["total"]["seed_threshold"] is None
    assert (answer["total"]["cr_pixels"], answer["total"]["cr_events"]) == (6, 4)
    text = report.as_text()
    assert "threshold 0.3 0.6 (groups 0.9), 3 views" in text
    asked = [replace(c.provenance, second_model="s", second_sha256="1") for c in chips]
    both = tuple(replace(c, provenance=p) for c, p in zip(chips, asked, strict=True))
    text_of_both = replace(report, chips=both).as_text()
    assert "m (asking s), threshold 0.3 (groups by both networks)" in text_of_both
    cards = {key: value for key, value, _ in combine(asked).to_cards()}
    assert (cards["CRMSNDMD"], cards["CRMSNDSH"]) == ("s", "1")
    assert answer["total"]["views"] is None
    assert "3.00 %" in text
    assert text.count("1.25") == 1
