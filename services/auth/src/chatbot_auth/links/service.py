"""Making sign-in links; following one is a way of signing in, see `sessions`."""

from chatbot_common.database import Database

from chatbot_auth.links import store
from chatbot_auth.links.schema import NewLink
from chatbot_auth.opaque import digest, new_token
from chatbot_auth.settings import Settings
from chatbot_auth.users.service import Users


class Links:
    """Makes links that sign their opener in as the administrator, once."""

    def __init__(self, settings: Settings, database: Database, users: Users) -> None:
        self._seconds = settings.sign_in_link_seconds
        self._database = database
        self._users = users

    async def create(self) -> NewLink:
        """Raises `Unavailable` while there is no administrator."""
        token = new_token()
        async with self._database.objects() as session:
            account = await self._users.administrator(session)
            await store.add(session, account.id, digest(token), self._seconds)
        return NewLink(token=token, expires_in=self._seconds)
