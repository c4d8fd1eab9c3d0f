"""Source files in GridFS, each stored once for all runs of the same content.

Sacred looks for a stored copy by name and MD5, but PyMongo has stored no MD5 since version 4, so that
each run would store its sources again: 27 files and 0.7 MB.

No lock protects a stored copy that a new run is about to refer to. Instead, its date is renewed before
the run refers to it, and a shared file with a recent date is not deleted.
"""

import hashlib
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import gridfs
from pymongo.database import Database

MAY_BE_IN_USE = timedelta(hours=1)  # a younger file may be of a run that is just being written
RENEW_AFTER = MAY_BE_IN_USE / 2


def store_sources(
    database: Database, folder: Path, sources: Iterable[tuple[str, str]]
) -> list[list[Any]]:
    """Names of source files and the ids of their copies in GridFS, in the form that Sacred stores.

    Arguments:
        folder: Where the sources are.
        sources: Their names in the folder, and their MD5 when the program was loaded.
    """
    wanted = {str(folder / name): md5 for name, md5 in sources}
    files = database["fs.files"]
    same = {"filename": {"$in": list(wanted)}, "md5": {"$in": list(wanted.values())}}
    now = datetime.now(UTC)
    files.update_many(
        {**same, "uploadDate": {"$lt": now - RENEW_AFTER}}, {"$set": {"uploadDate": now}}
    )
    stored = {(file["filename"], file["md5"]): file["_id"] for file in files.find(same)}
    bucket = gridfs.GridFS(database)
    for path, md5 in wanted.items():
        if (path, md5) not in stored:
            content = Path(path).read_bytes()
            read = hashlib.md5(content, usedforsecurity=False).hexdigest()
            stored[path, md5] = bucket.put(content, filename=path, md5=read)
    return [[name, stored[str(folder / name), md5]] for name, md5 in sources]


def delete_file(database: Database, file_id: Any) -> None:
    """Delete a file of GridFS, unless it is shared and a run may be about to refer to it."""
    is_recent = {"$gte": datetime.now(UTC) - MAY_BE_IN_USE}
    unused = {"_id": file_id, "$nor": [{"md5": {"$exists": True}, "uploadDate": is_recent}]}
    if database["fs.files"].delete_one(unused).deleted_count:
        database["fs.chunks"].delete_many({"files_id": file_id})
