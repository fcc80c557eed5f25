"""The settings of `monitor watch` itself."""

from pydantic import BaseModel, ConfigDict, Field

from monitor.config.values import Text


class WatchTable(BaseModel):
    """Where the guard gives its own figures."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", validate_default=False)

    host: Text = Field("127.0.0.1", description="the address to listen on")
    port: int = Field(8_091, ge=1, le=65_535, description="the port of its figures")
