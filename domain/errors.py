"""Every error that Shelfcast raises on purpose.

    ShelfcastError                 code, http_status, retryable, fields
    ├── BadRequest                 the caller's input is wrong: 400
    │   └── BadSetting             the configuration is wrong: the app must not start
    ├── NotFound                   no such run, source, model, week: 404
    │   └── BlobNotFound
    ├── Conflict                   somebody else was quicker, or the state forbids it: 409
    │   └── BlobConflict           an ETag or if-none-match condition failed
    ├── Forbidden                  the caller's role does not allow it: 403
    ├── GateClosed                 a gate refused: 409, names the reasons
    ├── BudgetExceeded             the estimate is above the limit: 409
    ├── JobRejected                Azure ML refused the job for good
    ├── IntegrityError             bytes or counts do not agree: stop, never publish
    └── Unavailable                only a retry cures it: 503, retryable
        └── Throttled              429 of a service, with the seconds that it asked to wait
"""

from __future__ import annotations

from typing import Any, ClassVar


class ShelfcastError(Exception):
    """Base of all deliberate errors: a stable code for machines, a sentence with the remedy for people."""

    code: ClassVar[str] = "error"
    http_status: ClassVar[int] = 500
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, **fields: Any) -> None:
        """Keep `fields` (file, row, field, value, remedy, ...) as data beside the sentence."""
        super().__init__(message)
        self.message = message
        self.fields = fields

    def to_problem(self, instance: str = "") -> dict[str, Any]:
        """Return the RFC 9457 problem document of this error."""
        problem: dict[str, Any] = {
            "type": f"urn:shelfcast:problem:{self.code}",
            "title": self.code.replace("_", " "),
            "status": self.http_status,
            "detail": self.message,
            "retryable": self.retryable,
        }
        if instance:
            problem["instance"] = instance
        problem.update({key: value for key, value in self.fields.items() if key not in problem})
        return problem


class BadRequest(ShelfcastError):
    """The caller's input is wrong; the message names field, value and remedy."""

    code = "bad_request"
    http_status = 400


class BadSetting(BadRequest):
    """A setting is missing or unusable; the message lists every one at once."""

    code = "bad_setting"
    http_status = 500


class NotFound(ShelfcastError):
    """The named thing does not exist."""

    code = "not_found"
    http_status = 404


class BlobNotFound(NotFound):
    """The lake holds no such blob."""

    code = "blob_not_found"


class Conflict(ShelfcastError):
    """The state forbids the wish, or another writer was quicker."""

    code = "conflict"
    http_status = 409


class BlobConflict(Conflict):
    """A conditional write lost: the blob exists already or changed since it was read."""

    code = "blob_conflict"


class Forbidden(ShelfcastError):
    """The caller's role does not allow this."""

    code = "forbidden"
    http_status = 403


class GateClosed(ShelfcastError):
    """A gate refused to let the run go on."""

    code = "gate_closed"
    http_status = 409


class BudgetExceeded(ShelfcastError):
    """The estimated cost is above the configured limit; nothing was submitted."""

    code = "budget_exceeded"
    http_status = 409


class JobRejected(ShelfcastError):
    """The machine-learning platform refused the job; a retry of the same job cannot help."""

    code = "job_rejected"
    http_status = 502


class IntegrityError(ShelfcastError):
    """Bytes, hashes or counts disagree; whatever was being made is not published."""

    code = "integrity"
    http_status = 500


class Unavailable(ShelfcastError):
    """A service did not answer properly; the same call later may work."""

    code = "unavailable"
    http_status = 503
    retryable = True


class Throttled(Unavailable):
    """A service asked for patience; `fields["retry_after"]` holds the seconds."""

    code = "throttled"
    http_status = 503
