"""What docker-compose.yml must say about every service; that it works is for `scripts/test-compose`."""

import json
import os
import re
import subprocess
import sys
import unittest
from pathlib import Path

SCRIPTS = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(SCRIPTS))

from orderlog_compose import stand_ins  # noqa: E402  (the path comes first)
from orderlog_stack import tools  # noqa: E402
from orderlog_stack.downloads import VERSIONS  # noqa: E402

COMPOSE_FILE = SCRIPTS.parent / "docker-compose.yml"
REAL_PROVIDERS = SCRIPTS.parent / "deploy" / "real-providers.yml"
CONFIG_WITHIN_S = 60
PROFILE = "observability"
ONCE = {"secrets", "prepare", "prepare-read-models", "admin"}
"""They run once per start."""
ASK_NOBODY = {"notifier-network", "collector", "jaeger", "loki"}
"""Nothing in these containers could ask whether they are well."""
WRITE = {"kafka", "registry", *ONCE}
"""Their programs write into the image's own directories, or are gone before it matters."""


def config(*profiles, also=(), environment=None):
    files = [f"--file={file}" for file in (COMPOSE_FILE, *also)]
    command = [tools.checker("docker-compose"), *files, *(f"--profile={profile}" for profile in profiles),
               "config", "--format", "json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=CONFIG_WITHIN_S, env=environment)
    return json.loads(done.stdout)


class ComposeFile(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.core = config()["services"]
        cls.all = config(PROFILE)["services"]
        cls.lasting = {name: service for name, service in cls.all.items() if name not in ONCE}

    def test_plain_up_starts_the_core_and_the_profile_the_rest(self):
        watching = {"collector", "jaeger", "loki", "prometheus", "grafana"}
        self.assertEqual(set(self.all) - set(self.core), watching)
        for name, service in self.core.items():
            self.assertFalse(watching & set(service.get("depends_on", {})), name)

    def test_nobody_may_become_more_than_it_is(self):
        for name, service in self.all.items():
            self.assertEqual(service.get("cap_drop"), ["ALL"], name)
            self.assertIn("no-new-privileges:true", service.get("security_opt", []), name)
            self.assertNotIn("privileged", service, name)
            self.assertNotIn(str(service.get("user", "")).partition(":")[0], ("0", "root"), name)

    def test_what_lasts_is_limited_restarted_watched_and_cannot_write(self):
        for name, service in self.lasting.items():
            self.assertIn("mem_limit", service, name)
            self.assertEqual(service.get("restart"), "unless-stopped", name)
            self.assertEqual(service.get("read_only", False), name not in WRITE, name)
            if "build" not in service:
                self.assertEqual("healthcheck" in service, name not in ASK_NOBODY, name)

    def test_published_images_are_exact_versions(self):
        for name, service in self.all.items():
            if "build" not in service and service["image"] != stand_ins.DEBIAN:
                self.assertRegex(service["image"].rpartition(":")[2], r"^v?\d+\.\d+\.?\d*$", name)

    def test_only_loopback_is_published(self):
        for name, service in self.all.items():
            for port in service.get("ports", []):
                self.assertEqual(port.get("host_ip"), "127.0.0.1", name)

    def test_no_secret_is_in_the_environment(self):
        told = re.compile(r"(?i)(password|secret|token|key)(?!.*(_file|__file)$)")
        for name, service in self.all.items():
            for setting, value in service.get("environment", {}).items():
                if told.search(setting):
                    self.assertIn("stand-in", value, f"{name}: {setting}")

    def test_real_providers_have_no_account_that_nobody_gave(self):
        given = {"TWILIO_ACCOUNT_SID": "sid", "TWILIO_AUTH_TOKEN": "token", "MAIL_FROM": "mail", "SMS_FROM": "number"}
        environment = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), **given}
        real = config(also=[REAL_PROVIDERS], environment=environment)["services"]["notifier"]["environment"]
        for setting, value in given.items():
            self.assertEqual(real[setting], value)
        for setting in ("SENDGRID_API_KEY", "MAILGUN_API_KEY", "MAILGUN_DOMAIN", "SMTP_URL"):
            self.assertEqual(real[setting], "", setting)
        self.assertIsNone(real.get("SMTP_CA_FILE"))

    def test_the_core_can_be_had_without_pulling(self):
        stood_in = {stand_in.image for stand_in in stand_ins.STAND_INS}
        for name, service in self.core.items():
            if "build" not in service and service["image"] != stand_ins.DEBIAN:
                self.assertIn(service["image"].partition(":")[0], stood_in, name)

    def test_what_watches_is_stood_in_or_said_to_be_left_out(self):
        known = {stand_in.image for stand_in in stand_ins.STAND_INS} | set(stand_ins.LEFT_OUT)
        for name in set(self.all) - set(self.core):
            self.assertIn(self.all[name]["image"].partition(":")[0], known, name)

    def test_the_stand_in_for_the_collector_is_the_same_release(self):
        self.assertEqual(self.all["collector"]["image"].rpartition(":")[2], VERSIONS["collector"]["version"])


if __name__ == "__main__":
    unittest.main()
