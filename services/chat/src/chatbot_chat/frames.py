"""What a client may say on the socket: one JSON object per text frame. It hears events of runs, see runs/events.py."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from chatbot_chat.schema import Id, SendRequest


class Frame(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Message(SendRequest):
    """A message to the assistant; its run's events follow, then `response`."""

    type: Literal["message"]


class Stop(Frame):
    """Stop a run; without an id, the last one that was begun or resumed here."""

    type: Literal["stop"]
    run_id: Id | None = None


class Resume(Frame):
    """Follow a run from after a position: `seq`, or `attempt-seq` as text."""

    type: Literal["resume"]
    run_id: Id
    after: Annotated[int, Field(ge=0)] | str | None = None


class Approve(Frame):
    type: Literal["approve"]
    run_id: Id
    tool_call_id: Annotated[str, Field(max_length=128)]
    approved: bool = True


class Auth(Frame):
    """A fresh access token of the same user, before the old one expires."""

    type: Literal["auth"]
    token: Annotated[str, Field(max_length=8192, pattern=r"^[\x21-\x7e]*$")]


class Ping(Frame):
    """Answered with `pong`."""

    type: Literal["ping"]


AnyFrame = Annotated[Message | Stop | Resume | Approve | Auth | Ping, Field(discriminator="type")]
FRAMES: TypeAdapter[AnyFrame] = TypeAdapter(AnyFrame)
