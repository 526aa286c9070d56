"""What auth refuses, beyond the errors every service knows."""

from chatbot_common.errors import Problem


class SignUpClosed(Problem):
    status, kind, title = 403, "sign-up-closed", "Sign-up is closed; ask an administrator for an account"


class AccountDisabled(Problem):
    status, kind, title = 403, "account-disabled", "This account is disabled; ask an administrator"


class EmailTaken(Problem):
    status, kind, title = 409, "email-taken", "There is an account with this e-mail address already; sign in instead"


class KeyNameTaken(Problem):
    status, kind, title = 409, "key-name-taken", "You have an API key of this name; choose another, or revoke that one"


class TooManyKeys(Problem):
    status, kind, title = 409, "too-many-keys", "There are as many API keys as one may have"


class UsernameTaken(Problem):
    status, kind, title = 409, "username-taken", "This username is taken; choose another"
