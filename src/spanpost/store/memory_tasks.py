"""Tasks of the memory store, indexed by their root."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from spanpost.model.tasks import Task


class Tasks(dict[UUID, Task]):
    """Tasks by uid. The tasks below a root are found without a scan."""

    def __init__(self) -> None:
        super().__init__()
        self._below: dict[UUID, dict[UUID, None]] = {}

    def __setitem__(self, uid: UUID, task: Task) -> None:
        known = self.get(uid)
        if known is not None and known.root_uid != task.root_uid:
            self._leave(known)
        super().__setitem__(uid, task)
        if task.root_uid is not None and task.root_uid != uid:
            self._below.setdefault(task.root_uid, {})[uid] = None

    def __delitem__(self, uid: UUID) -> None:
        self._leave(self[uid])
        super().__delitem__(uid)

    def pop(self, uid: UUID, default: Any = None) -> Any:
        """Remove a task and return it."""
        task = self.get(uid, default)
        if uid in self:
            del self[uid]
        return task

    def below(self, root: UUID) -> list[Task]:
        """Return the tasks below a root task."""
        return [self[uid] for uid in self._below.get(root, ())]

    def _leave(self, task: Task) -> None:
        if task.root_uid is not None and task.root_uid in self._below:
            self._below[task.root_uid].pop(task.uid, None)
            if not self._below[task.root_uid]:
                del self._below[task.root_uid]
