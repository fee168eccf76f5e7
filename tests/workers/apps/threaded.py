"""An app whose import starts a thread that its tasks need."""

import os
import threading
from queue import Queue

from penstock import App

app = App()
questions: Queue[tuple[int, Queue[int]]] = Queue()


def _answer() -> None:
    while True:
        n, answers = questions.get()
        answers.put(n + 1)


threading.Thread(target=_answer, name="the-answering-thread", daemon=True).start()


@app.task
def ask(n: int) -> dict[str, int]:
    answers: Queue[int] = Queue()
    questions.put((n, answers))
    return {"n": answers.get(timeout=10), "pid": os.getpid()}
