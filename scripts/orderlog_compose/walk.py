"""The demo's scenario, asked of the composed system from outside: everything through the gateway, over TLS."""

import uuid

from orderlog_demo.client import eventually
from orderlog_demo.walk import PASSWORD, Walk
from orderlog_stack.home import ADMIN_EMAIL

GATEWAY = "https://127.0.0.1:21006"
PROVIDERS = "http://127.0.0.1:21005"
BACK_WITHIN_S = 60


class ComposedWalk(Walk):
    """Those steps of the demo that need no files and programs of the system."""

    def __init__(self, screen, admin_password, ca_file):
        super().__init__(screen, _NoLogs(), {
            "ORDERLOG_URL": GATEWAY,
            "ORDERLOG_CA_FILE": ca_file,
            "ORDERLOG_PROVIDERS_URL": PROVIDERS,
            "ORDERLOG_ADMIN_EMAIL": ADMIN_EMAIL,
            "ORDERLOG_ADMIN_PASSWORD": admin_password,
        }, postgres=None, listener=None)

    def run(self):
        """From the registration to the mails."""
        self.register_and_log_in()
        self.create_orders()
        self.change_orders()
        self.refusals()
        self.read_back()
        self.show_messages()

    def anew(self):
        """The same walk for somebody else."""
        return ComposedWalk(self.screen, self.settings["ORDERLOG_ADMIN_PASSWORD"], self.settings["ORDERLOG_CA_FILE"])

    def still_there(self, title):
        """Logs in again, reads both orders and creates a third one."""
        with self.screen.step(title, title) as row:
            self.token = self.post("/login", {"email": self.email, "password": PASSWORD}, shown=False)["access_token"]
            for order in self.orders[:2]:
                self.get(f"/orders/{order}", token=self.token, shown=False, Consistency_Token=self.written[order])
            created = self.post("/orders", {
                "currency": "GBP", "lines": [{"sku": "CUP-1", "quantity": 1, "unit_price": "6.00"}],
            }, token=self.token, expect=(201,), shown=False, Idempotency_Key=f'"{uuid.uuid4()}"')
            self.get(f"/orders/{created['id']}", token=self.token, shown=False,
                     Consistency_Token=created.headers["Consistency-Token"])
            self.screen.line("logged in, read the orders of before, created another and read it")
            row.count = "3 orders"


class _NoLogs:
    """What the demo asks for a process's log; containers have theirs in Docker."""

    def log(self, _name):
        return None


def back(project, service, killed):
    """Waits until the container that was killed runs as another process and is healthy."""
    def found():
        state = project.containers()[service]["State"]
        return state["Pid"] not in (0, killed) and state["Health"]["Status"] == "healthy"
    eventually(f"{service}, started again", found, None, within_s=BACK_WITHIN_S, every_s=0.5)
