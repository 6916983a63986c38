"""The walk itself: each step asks the running system and shows what came of it."""

import json
import os
import random
import re
import subprocess
import threading
import uuid

from orderlog_stack import services
from orderlog_stack.home import CHECKOUT
from orderlog_stack.report import Failure

from .client import Api, call, eventually
from .trace import show_trace

PASSWORD = "correct horse battery staple"
EXAMPLE_CSV = CHECKOUT / "examples" / "orders.csv"
COMMAND_WITHIN_S = 600
DOCUMENT_LINES_MAX = 6


class Walk:
    """What the steps know of the system and of what earlier steps made."""

    def __init__(self, screen, home, settings, postgres, listener):
        self.screen = screen
        self.home = home
        self.settings = settings
        self.postgres = postgres
        self.listener = listener
        self.api = Api(settings["ORDERLOG_URL"], home.log("gateway"), settings["ORDERLOG_CA_FILE"])
        self.providers = Api(settings["ORDERLOG_PROVIDERS_URL"], home.log("providers"))
        self.email = f"ada.{uuid.uuid4().hex[:12]}@example.com"
        self.phone = f"+447700900{random.randrange(1000):03}"  # a range that is never given to anybody
        self.orders = []
        self.written = {}
        """The Consistency-Token of the last command, by what it changed: a token is about one partition only."""

    def run(self):
        """All steps in their order."""
        self.register_and_log_in()
        self.create_orders()
        self.change_orders()
        self.refusals()
        self.read_back()
        self.show_postgres()
        self.show_mongodb()
        self.show_events()
        self.show_messages()
        show_trace(self)
        self.rebuild()
        self.import_csv()

    def register_and_log_in(self):
        """A user of this run's own, and the admin."""
        with self.screen.step("Register and log in", "users registered") as row:
            answer = self.post("/register", {
                "email": self.email, "password": PASSWORD, "name": "Ada Lovelace", "phone": self.phone, "locale": "en-GB",
            }, expect=(201,))
            self.user = answer["id"]
            self.written[self.user] = answer.headers["Consistency-Token"]
            self.token = self.post("/login", {"email": self.email, "password": PASSWORD})["access_token"]
            self.admin = self.post("/login", {
                "email": self.settings["ORDERLOG_ADMIN_EMAIL"], "password": self.settings["ORDERLOG_ADMIN_PASSWORD"],
            }, shown=False)["access_token"]
            row.count = "1"

    def create_orders(self):
        """Two orders; the first one's request is sent twice with one Idempotency-Key."""
        with self.screen.step("Create orders; a repeated request makes no second order", "orders created") as row:
            key = f'"demo-{uuid.uuid4().hex[:8]}"'
            order = {
                "currency": "GBP",
                "lines": [
                    {"sku": "TEA-250", "name": "Assam leaf tea 250 g", "quantity": 2, "unit_price": "4.25"},
                    {"sku": "CUP-1", "name": "Cup", "quantity": 4, "unit_price": "6.00"},
                ],
                "note": "Ring twice",
            }
            first = self.post("/orders", order, token=self.token, expect=(201,), Idempotency_Key=key)
            again = self.post("/orders", order, token=self.token, expect=(200, 201), Idempotency_Key=key)
            if again["id"] != first["id"]:
                raise Failure(f"the repeated request made a second order, {again['id']}", self.api.log)
            self.screen.remark("the same order: the answer was replayed, nothing happened twice")
            second = self.post("/orders", {
                "currency": "GBP", "lines": [{"sku": "CUP-1", "quantity": 1, "unit_price": "6.00"}],
            }, token=self.token, expect=(201,), Idempotency_Key=f'"demo-{uuid.uuid4().hex[:8]}"')
            self.orders = [first["id"], second["id"]]
            self.etag = first.headers["ETag"]
            row.count = "2"

    def change_orders(self):
        """Update, progress and complete the first order; cancel the second."""
        with self.screen.step("Update, progress, complete and cancel", "orders changed") as row:
            first, second = self.orders
            updated = self.put(f"/orders/{first}", {
                "lines": [{"sku": "TEA-250", "name": "Assam leaf tea 250 g", "quantity": 3, "unit_price": "4.25"}],
                "note": "Ring twice",
            }, token=self.token, If_Match=self.etag)
            progressed = self.put(f"/orders/{first}/status", {"status": "in_progress"}, token=self.admin,
                                  If_Match=updated.headers["ETag"])
            completed = self.put(f"/orders/{first}/status", {"status": "completed"}, token=self.admin,
                                 If_Match=progressed.headers["ETag"])
            cancelled = self.post(f"/orders/{second}/cancel", {"reason": "Ordered twice"}, token=self.token)
            self.written[first] = completed.headers["Consistency-Token"]
            self.written[second] = cancelled.headers["Consistency-Token"]
            row.count = "4"

    def refusals(self):
        """A stale version, a broken rule, and several mistakes at once."""
        with self.screen.step("What is refused", "requests refused") as row:
            first, second = self.orders
            self.put(f"/orders/{first}", {"lines": [{"sku": "X", "quantity": 1, "unit_price": "1.00"}]},
                     token=self.token, If_Match=self.etag, expect=(412,))
            self.put(f"/orders/{second}/status", {"status": "completed"}, token=self.admin, expect=(409,))
            self.post("/orders", {
                "currency": "GBP", "lines": [{"sku": "", "quantity": 0, "unit_price": "1.005"}],
            }, token=self.token, expect=(422,))
            row.count = "3"

    def read_back(self):
        """Queries, asked to wait until it has seen the last command on what is read."""
        with self.screen.step("Read back what was just written", "queries") as row:
            for order in self.orders:
                self.get(f"/orders/{order}", token=self.token, Consistency_Token=self.written[order])
            listed = self.get("/orders?limit=10", token=self.token, shown=False)
            self.screen.line(f"GET /orders lists {len(listed['items'])} orders of this user, the newest first")
            self.get("/users/me", token=self.token, Consistency_Token=self.written[self.user])
            row.count = str(len(self.orders) + 2)

    def show_postgres(self):
        """The user's row as any reader of the database sees it."""
        with self.screen.step("The user's row in PostgreSQL", "rows shown") as row:
            rows = eventually("the user's row", lambda: self.postgres.rows(
                "orderlog", f"SELECT * FROM users WHERE user_id = '{uuid.UUID(self.user)}'"),
                self.home.log("projections"))
            for name, value in rows[0].items():
                self.screen.line(f"{name:<15} {value}")
            self.screen.remark("e-mail, name and phone are sealed with a key of the user's own; destroying it erases them")
            row.count = str(len(rows))

    def show_mongodb(self):
        """The orders' documents as they lie in the database."""
        with self.screen.step("The orders' documents in MongoDB", "documents shown") as row:
            command = ["projections", "show", "orders", "--limit", str(len(self.orders))]
            documents = _documents("".join(self.tool(command, asks="projections", shown=False)))
            for document in documents:
                self.screen.json(document, lines_max=DOCUMENT_LINES_MAX)
            if {document["_id"] for document in documents} != set(self.orders):
                raise Failure("the newest documents are not the orders of this run", self.home.log("projections"))
            self.screen.remark("the note is sealed like the user's name")
            row.count = str(len(documents))

    def show_events(self):
        """The events behind all that, read by Kafka's own console consumer."""
        with self.screen.step("The events in Kafka, the only source of truth", "events shown") as row:
            found = self.listener.events_of({self.user, *self.orders}, count=7)
            for position, headers, stream in found:
                self.screen.line(
                    f"{headers.get('ce_type', '?'):<22} {stream}  version {headers.get('ce_streamversion', '?')}  "
                    f"{position:<22}  {headers.get('ce_time', '')[:19]}"
                )
            row.count = str(len(found))

    def show_messages(self):
        """What the stand-in for the providers received for this user."""
        with self.screen.step("E-mails and SMS, as the providers' stand-in got them", "messages sent") as row:
            def received():
                mails, texts = (
                    call(self.screen, "GET", self.providers, f"/messages?to={to}", shown=False)["items"]
                    for to in (self.email, f"%2B{self.phone[1:]}")
                )
                texts = [text for text in texts if any(order in text["text"] for order in self.orders)]
                return (mails, texts) if len(mails) >= 5 and len(texts) >= 4 else None

            mails, texts = eventually("the five e-mails and four SMS", received, self.home.log("notifier"))
            for mail in reversed(mails):
                self.screen.line(f"mail  {mail['to']}  {mail['subject']}")
            for text in reversed(texts):
                self.screen.line(f"SMS   {text['to']}  {text['text']}")
            self.screen.remark(f"all of them: {self.providers.url}/")
            row.count = f"{len(mails)} + {len(texts)}"

    def rebuild(self):
        """Both read models filled anew from the log, then compared with a fold of it."""
        with self.screen.step("Rebuild both read models from the log and verify them", "rebuild and verify") as row:
            for command in (["rebuild", "users"], ["rebuild", "orders"], ["verify"]):
                self.tool(["projections", *command], asks="projections")
            row.count = "2 read models"

    def import_csv(self):
        """The example file; a second run finds everything there already."""
        with self.screen.step("Import orders from a CSV file", "import and reconcile") as row:
            printed = self.tool(["import-orders", str(EXAMPLE_CSV)], asks="gateway")
            orders = re.search(r"invoices to order +(\d+)", "".join(printed))
            row.count = f"{orders.group(1)} orders" if orders else ""

    def tool(self, command, asks, shown=True):
        """Runs one of our own commands, shows what it prints and returns it line by line. `asks`: whose log says more."""
        paths = (os.path.relpath(part, CHECKOUT) if part.startswith("/") else part for part in command)
        self.screen.line(f"$ {' '.join(paths)}")
        process = subprocess.Popen(
            [str(services.binaries(self.home) / command[0]), *command[1:]],
            env={**os.environ, **self.settings, "LOG_FILTER": "warn"}, cwd=CHECKOUT, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, text=True,
        )
        late = threading.Event()
        limit = threading.Timer(COMMAND_WITHIN_S, lambda: (late.set(), process.kill()))
        limit.start()
        printed = []
        try:
            for line in process.stdout:
                printed.append(line)
                if shown:
                    self.screen.line(line.rstrip("\n"))
            process.wait()
        finally:
            limit.cancel()
            process.kill()
            process.stdout.close()
            process.wait()
        if process.returncode != 0:
            how = f"did not end within {COMMAND_WITHIN_S} s" if late.is_set() else f"failed ({process.returncode})"
            raise Failure(f"{' '.join(command)} {how}; its messages are above", self.home.log(asks))
        return printed

    def get(self, path, **more):
        """A query."""
        return call(self.screen, "GET", self.api, path, **more)

    def post(self, path, body, **more):
        """A command."""
        return call(self.screen, "POST", self.api, path, body, **more)

    def put(self, path, body, **more):
        """A command."""
        return call(self.screen, "PUT", self.api, path, body, **more)


def _documents(text):
    """The JSON documents of a text that holds one after another."""
    decoder, documents, at = json.JSONDecoder(), [], 0
    while at < len(text.rstrip()):
        document, at = decoder.raw_decode(text, at)
        documents.append(document)
        at += len(text[at:]) - len(text[at:].lstrip())
    return documents
