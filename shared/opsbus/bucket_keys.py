"""Which keys a bucket holds, asked of the server itself.

nats-py finds them with a watch, whose mark of the end can overtake the entries before it: a full bucket looks empty
then. To follow a bucket is the matter of ``bucket_watch``.
"""

from nats.js import JetStreamContext


async def bucket_keys(js: JetStreamContext, bucket: str) -> list[str]:
    """The bucket's keys, sorted. One that was deleted is named until its mark goes: reading it finds nothing.

    Raises:
        nats.errors.Error: the bucket is not there, or this identity may not ask.
    """
    prefix = f"$KV.{bucket}."
    info = await js.stream_info(f"KV_{bucket}", subjects_filter=f"{prefix}>")
    return sorted(subject.removeprefix(prefix) for subject in info.state.subjects or {})
