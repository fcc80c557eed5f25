"""What the configuration says of a point or an experiment for its readers; nothing depends on it."""

from pydantic import BaseModel, ConfigDict, Field

from monitor.config.values import Text, Url


class AboutTable(BaseModel):
    """What is shown with a point or an experiment."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", validate_default=False)

    description: Text | None = Field(None, description="what it is, or what it is to show")
    owner: Text | None = Field(None, description="who answers questions about it")
    unit: Text | None = Field(None, description="of a point: of its value, such as USD; else: what is assigned")
    link: Url | None = Field(None, description="where more of it is")
