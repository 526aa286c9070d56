"""What the conversation service and its worker are told."""

from typing import Annotated, Literal

from chatbot_common.database_url import DatabaseUrl
from chatbot_common.settings import ClosedModel, Port, ServiceSettings
from pydantic import Field, SecretStr


class EmbeddingSettings(ClosedModel):
    """`Local` is the bundled MiniLM; `OpenAICompatible` needs `base_url` and `model`."""

    type: Literal["Local", "OpenAICompatible"]
    base_url: str | None
    model: str | None
    dimensions: Annotated[int, Field(ge=8, le=4096)]


class VectorSettings(ClosedModel):
    """`Weaviate` needs `url`; its gRPC is at the same host, with TLS when `url` has it."""

    type: Literal["PGVector", "Weaviate"]
    url: str | None
    grpc_port: Port = 50051


class Settings(ServiceSettings):
    embeddings: EmbeddingSettings
    vectors: VectorSettings
    faq_file: str | None
    """YAML list of FAQs that are kept published as they stand in the file."""
    documents_dir: str | None
    """Folder of Markdown files that are kept indexed as they stand."""
    turn_seconds: Annotated[int, Field(ge=1)]
    """The longest a turn may run; after that the worker closes it as interrupted."""
    database_url: DatabaseUrl
    embeddings_key: SecretStr | None = None
    weaviate_key: SecretStr | None = None
    """API key; None where Weaviate lets everyone in."""
