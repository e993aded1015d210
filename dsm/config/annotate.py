"""`stage=annotate`: whose decisions on which mined run, through the web page or a CSV file."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from dsm.config.base import Count
from dsm.config.run import RunConfig

ANNOTATOR = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
"""An annotator's name is a file's name: RUN/annotations/NAME.jsonl."""


class AnnotateConfig(RunConfig):
    """`stage=annotate`: decide on the paths of candidate domains."""

    stage: Literal["annotate"]
    run: str = Field(min_length=1, description="the folder of a `stage=mine` run")
    annotator: str | None = Field(pattern=ANNOTATOR, description="who decides; null = the login name")
    round: Count | None = Field(description="whose scores and candidates are shown; null = the last round there is")
    port: int = Field(ge=0, lt=65_536, description="0 = any that is free")
    open: bool = Field(description="open the page in the web browser")
    samples: int = Field(ge=1, le=50, description="pages shown at a time, of those collected and of those not")
    min_pages: Count = Field(description="a path with fewer pages is never asked about by itself")
    export_csv: str | None = Field(alias="export", description="write all decisions to this CSV file, and end")
    import_csv: str | None = Field(alias="import", description="add the decisions of this CSV file, and end")

    @model_validator(mode="after")
    def _goes_one_way(self) -> AnnotateConfig:
        if self.export_csv is not None and self.import_csv is not None:
            raise ValueError(f"import={self.import_csv}: goes without export; run the one, then the other")
        return self
