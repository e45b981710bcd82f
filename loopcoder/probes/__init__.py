"""Looking inside the loops: taps on the real model, the paper's measures, and their records.

```python
from loopcoder.checkpoint.load import load_model
from loopcoder.probes import Taps

with Taps(model) as taps:
    model(token_BT)
```

`Taps` shows and changes what a loop computes, `measures` and `measure_attention` turn it into
numbers, `probe` does it all for many samples, and `frame` makes a pandas frame of the rows.
"""

from loopcoder.probes import measures
from loopcoder.probes.attention import LayerAttention, Maps, maps, measure_attention
from loopcoder.probes.conventions import Conventions
from loopcoder.probes.frame import frame, sample_frame
from loopcoder.probes.identity import source_of
from loopcoder.probes.lens import Lens, read_lens
from loopcoder.probes.observe import ProbeOptions
from loopcoder.probes.passage import read_passage
from loopcoder.probes.probe import probe
from loopcoder.probes.samples import Draw, Drawn, Sample, survey
from loopcoder.probes.taps import Site, Taps
from loopcoder.probes.texts import HeldoutDocuments, TextDocuments, find_documents

__all__ = [
    "Conventions",
    "Draw",
    "Drawn",
    "HeldoutDocuments",
    "LayerAttention",
    "Lens",
    "Maps",
    "ProbeOptions",
    "Sample",
    "Site",
    "Taps",
    "TextDocuments",
    "find_documents",
    "frame",
    "maps",
    "measure_attention",
    "measures",
    "probe",
    "read_lens",
    "read_passage",
    "sample_frame",
    "source_of",
    "survey",
]
