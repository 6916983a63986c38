//! The processes of the stack: which there are, what processor time and memory they took, holding them still.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use anyhow::{Context, ensure};
use parking_lot::Mutex;

/// How /proc counts time: USER_HZ is 100 on every Linux that this runs on.
const TICK: Duration = Duration::from_millis(10);
const MEMORY_LOOKED_AT_EVERY: Duration = Duration::from_millis(250);
/// This program.
pub const LOAD_GENERATOR: &str = "load generator";
/// Everything else that ran on the machine.
pub const OTHERS: &str = "others";

/// The processes under `scripts/stack`.
#[derive(Clone)]
pub struct Stack {
    program: PathBuf,
    /// Name and process id.
    pub processes: Vec<(String, u32)>,
}

impl Stack {
    /// Asks which processes there are.
    pub fn ask(program: &Path) -> anyhow::Result<Self> {
        let mut stack = Self {
            program: program.to_owned(),
            processes: Vec::new(),
        };
        stack.look()?;
        ensure!(
            stack.pid("command-api-1").is_ok() && stack.pid("kafka").is_ok(),
            "the stack does not run: scripts/stack up"
        );
        Ok(stack)
    }

    fn look(&mut self) -> anyhow::Result<()> {
        self.processes = running(&self.run(&["status"])?);
        Ok(())
    }

    /// Ends a process and starts it with other settings than those of the stack; returns when it is ready.
    pub fn restart(&mut self, name: &str, settings: &[(&str, &str)]) -> anyhow::Result<()> {
        self.run(&["stop", name])?;
        self.run_with(&["start", name], settings)?;
        self.look()
    }

    /// Ends a process and waits until it has.
    pub fn stop(&self, name: &str) -> anyhow::Result<()> {
        self.run(&["stop", name]).map(drop)
    }

    /// Begins to start a process; [`Stack::started`] waits until it is ready.
    pub fn start(&self, name: &str) -> anyhow::Result<Child> {
        let mut command = Command::new(&self.program);
        command
            .args(["start", name])
            .stdout(Stdio::null())
            .spawn()
            .with_context(|| format!("{} cannot be run", self.program.display()))
    }

    /// Waits until a process is ready.
    pub fn started(&mut self, mut starting: Child) -> anyhow::Result<()> {
        ensure!(starting.wait()?.success(), "a process could not be started");
        self.look()
    }

    /// Lets as many command nodes run; they run the same programs as the first.
    pub fn nodes(&mut self, count: usize, node: &str) -> anyhow::Result<()> {
        let program = fs::read_link(format!("/proc/{}/exe", self.pid(node)?))?;
        let binaries = program.parent().context("no directory")?.to_owned();
        let binaries = binaries.to_str().context("not UTF-8")?;
        let arguments = ["up", "--nodes", &count.to_string()];
        self.run_with(&arguments, &[("ORDERLOG_BINARIES", binaries)])?;
        self.look()
    }

    /// What `env` says of a variable.
    pub fn variable(&self, name: &str) -> anyhow::Result<String> {
        let said = self.run(&["env"])?;
        let begin = format!("export {name}=");
        let value = said.lines().find_map(|line| line.strip_prefix(&begin));
        let value = value.with_context(|| format!("the stack has no {name}"))?;
        Ok(value.trim_matches('\'').to_owned())
    }

    /// A variable of a process's own environment.
    pub fn variable_of(&self, process: &str, name: &str) -> anyhow::Result<Option<String>> {
        let all = fs::read(format!("/proc/{}/environ", self.pid(process)?))?;
        let begin = format!("{name}=");
        let mut all = all.split(|byte| *byte == 0);
        let value = all.find_map(|one| one.strip_prefix(begin.as_bytes()));
        Ok(value.map(|value| String::from_utf8_lossy(value).into_owned()))
    }

    /// Whether a process runs that did when the stack was last asked.
    pub fn is_running(&self, name: &str) -> anyhow::Result<bool> {
        Ok(Path::new(&format!("/proc/{}", self.pid(name)?)).exists())
    }

    /// How long a process has been running, within 20 ms.
    pub fn age(&self, name: &str) -> anyhow::Result<Duration> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid(name)?))?;
        let begun = Stat::parse(&stat).context("an unreadable stat")?.begun;
        let uptime = fs::read_to_string("/proc/uptime")?;
        let uptime = uptime.split_whitespace().next().unwrap_or_default();
        let uptime = Duration::from_secs_f64(uptime.parse()?);
        Ok(uptime.saturating_sub(time(begun)))
    }

    /// The id of a process.
    pub fn pid(&self, name: &str) -> anyhow::Result<u32> {
        let found = self.processes.iter().find(|(each, _)| each == name);
        found
            .map(|(_, pid)| *pid)
            .with_context(|| format!("{name} does not run"))
    }

    /// SIGSTOP; `resume` undoes it.
    pub fn pause(&self, name: &str) -> anyhow::Result<()> {
        self.run(&["pause", name]).map(drop)
    }

    /// SIGCONT.
    pub fn resume(&self, name: &str) -> anyhow::Result<()> {
        self.run(&["resume", name]).map(drop)
    }

    fn run(&self, arguments: &[&str]) -> anyhow::Result<String> {
        self.run_with(arguments, &[])
    }

    fn run_with(&self, arguments: &[&str], settings: &[(&str, &str)]) -> anyhow::Result<String> {
        let output = Command::new(&self.program)
            .args(arguments)
            .envs(settings.iter().copied())
            .output()
            .with_context(|| format!("{} cannot be run", self.program.display()))?;
        ensure!(
            output.status.success(),
            "{} {}: {}",
            self.program.display(),
            arguments.join(" "),
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(String::from_utf8(output.stdout)?)
    }

    /// What a process calls itself when asked for its version, by the program it was started with.
    pub fn version(&self, name: &str) -> anyhow::Result<String> {
        let command = fs::read(format!("/proc/{}/cmdline", self.pid(name)?))?;
        let program = command.split(|byte| *byte == 0).next().unwrap_or_default();
        let output = Command::new(std::str::from_utf8(program)?)
            .arg("--version")
            .output()?;
        let text = String::from_utf8(output.stdout)?;
        let version = text.split_whitespace().find(|word| {
            word.trim_start_matches('v')
                .starts_with(|c: char| c.is_ascii_digit())
        });
        Ok(version
            .unwrap_or("unknown")
            .trim_start_matches('v')
            .to_owned())
    }

    /// Resident memory of each process with all it started, in bytes.
    pub fn memory(&self) -> Memory {
        const PAGE_BYTES: u64 = 4096;
        let all = processes();
        let resident = |pid: u32| {
            let text = fs::read_to_string(format!("/proc/{pid}/statm")).unwrap_or_default();
            let pages = text.split(' ').nth(1).and_then(|pages| pages.parse().ok());
            pages.unwrap_or(0_u64) * PAGE_BYTES
        };
        self.processes
            .iter()
            .map(|(name, pid)| (name.clone(), family(&all, *pid).map(resident).sum()))
            .collect()
    }

    /// The highest that the resident memory of a process has been since it began, in bytes.
    pub fn highest_memory(&self, name: &str) -> anyhow::Result<u64> {
        peak_memory(self.pid(name)?).context("no VmHWM")
    }

    /// Processor time that each process with all it started has taken so far.
    pub fn processor_time(&self) -> ProcessorTime {
        let all = processes();
        let of = |pid: u32| all.get(&pid).map_or(0, |stat| stat.ticks);
        let own = std::process::id();
        let mut by_process: BTreeMap<String, u64> = self
            .processes
            .iter()
            .map(|(name, pid)| (name.clone(), family(&all, *pid).map(of).sum()))
            .collect();
        by_process.insert(LOAD_GENERATOR.to_owned(), of(own));
        let by_thread = self.pid("command-api-1").map(threads).unwrap_or_default();
        let (busy, idle) = machine();
        ProcessorTime {
            by_process,
            by_thread,
            busy,
            idle,
        }
    }
}

/// Bytes by process.
pub type Memory = BTreeMap<String, u64>;

/// Processor time taken so far, in ticks.
#[derive(Debug, Clone)]
pub struct ProcessorTime {
    by_process: BTreeMap<String, u64>,
    by_thread: BTreeMap<String, u64>,
    busy: u64,
    idle: u64,
}

/// Processor time that something took.
#[derive(Debug, Clone, Default)]
pub struct Taken {
    /// By process; also [`LOAD_GENERATOR`] and [`OTHERS`].
    pub by_process: BTreeMap<String, Duration>,
    /// Within the command-api, by the threads' names without their numbers.
    pub by_thread: BTreeMap<String, Duration>,
    /// How much of the machine's time nobody took, from 0 to 1.
    pub idle_share: f64,
}

impl ProcessorTime {
    /// What was taken from then to now.
    pub fn taken_since(&self, then: &Self) -> Taken {
        let differences = |now: &BTreeMap<String, u64>, then: &BTreeMap<String, u64>| {
            now.iter()
                .map(|(name, ticks)| {
                    let before = then.get(name).copied().unwrap_or(0);
                    (name.clone(), time(ticks.saturating_sub(before)))
                })
                .collect::<BTreeMap<_, _>>()
        };
        let mut by_process = differences(&self.by_process, &then.by_process);
        let busy = time(self.busy.saturating_sub(then.busy));
        let known: Duration = by_process.values().sum();
        by_process.insert(OTHERS.to_owned(), busy.saturating_sub(known));
        let idle = time(self.idle.saturating_sub(then.idle));
        Taken {
            by_process,
            by_thread: differences(&self.by_thread, &then.by_thread),
            idle_share: idle.as_secs_f64() / (busy + idle).as_secs_f64().max(0.001),
        }
    }
}

impl Taken {
    /// What all processes of the stack and the load generator took.
    pub fn all(&self) -> Duration {
        let others = self.by_process.get(OTHERS).copied().unwrap_or_default();
        let all: Duration = self.by_process.values().sum();
        all.saturating_sub(others)
    }

    /// What one process took.
    pub fn of(&self, name: &str) -> Duration {
        self.by_process.get(name).copied().unwrap_or_default()
    }
}

/// Processor time of the thread that the load runs on.
pub fn load_thread_time() -> Duration {
    let pid = std::process::id();
    let text = fs::read_to_string(format!("/proc/self/task/{pid}/stat")).unwrap_or_default();
    time(Stat::parse(&text).map_or(0, |stat| stat.ticks))
}

/// Looks at the memory now and then and keeps the highest.
pub struct MemoryWatch {
    over: Arc<AtomicBool>,
    highest: Arc<Mutex<Memory>>,
    thread: JoinHandle<()>,
}

impl MemoryWatch {
    /// Begins to look.
    pub fn start(stack: &Stack) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let highest = Arc::new(Mutex::new(Memory::new()));
        let thread = {
            let (stack, over, highest) = (stack.clone(), Arc::clone(&over), Arc::clone(&highest));
            std::thread::spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    raise(&mut highest.lock(), &stack.memory());
                    std::thread::sleep(MEMORY_LOOKED_AT_EVERY);
                }
            })
        };
        Self {
            over,
            highest,
            thread,
        }
    }

    /// The highest that was seen of each process.
    pub fn end(self) -> Memory {
        self.over.store(true, Ordering::Relaxed);
        // The thread does nothing that could fail.
        self.thread.join().ok();
        std::mem::take(&mut *self.highest.lock())
    }
}

/// Raises each process's figure to the one of `seen` if that is higher.
pub fn raise(highest: &mut Memory, seen: &Memory) {
    for (name, bytes) in seen {
        let known = highest.entry(name.clone()).or_insert(0);
        *known = (*known).max(*bytes);
    }
}

fn running(status: &str) -> Vec<(String, u32)> {
    status
        .lines()
        .filter_map(|line| {
            let mut columns = line.split_whitespace();
            let (name, _state, pid) = (columns.next()?, columns.next()?, columns.next()?);
            Some((name.to_owned(), pid.parse().ok()?))
        })
        .collect()
}

struct Stat {
    name: String,
    parent: u32,
    ticks: u64,
    /// In ticks since the machine was started.
    begun: u64,
}

impl Stat {
    /// Of a process with those of its children that have ended, or of a thread.
    fn parse(text: &str) -> Option<Self> {
        let (before, after) = text.rsplit_once(')')?;
        let (_, name) = before.split_once('(')?;
        let fields: Vec<&str> = after.split_whitespace().collect();
        let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
        Some(Self {
            name: name.to_owned(),
            parent: fields.get(1)?.parse().ok()?,
            ticks: (11..15).filter_map(number).sum(),
            begun: number(19)?,
        })
    }
}

fn processes() -> BTreeMap<u32, Stat> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let text = fs::read_to_string(entry.path().join("stat")).ok()?;
            Some((pid, Stat::parse(&text)?))
        })
        .collect()
}

/// A process and all it started that still run.
fn family(all: &BTreeMap<u32, Stat>, pid: u32) -> impl Iterator<Item = u32> {
    let mut found = vec![pid];
    let mut seen = 0;
    while let Some(parent) = found.get(seen).copied() {
        found.extend(
            all.iter()
                .filter(|(_, stat)| stat.parent == parent)
                .map(|(child, _)| *child),
        );
        seen += 1;
    }
    found.into_iter()
}

fn threads(pid: u32) -> BTreeMap<String, u64> {
    let entries = fs::read_dir(format!("/proc/{pid}/task"))
        .into_iter()
        .flatten()
        .flatten();
    let mut by_name = BTreeMap::new();
    for entry in entries {
        let text = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        if let Some(stat) = Stat::parse(&text) {
            let name = stat.name.trim_end_matches(|c: char| !c.is_alphabetic());
            *by_name.entry(name.to_owned()).or_insert(0) += stat.ticks;
        }
    }
    by_name
}

/// The most memory that a running process has had, in bytes.
pub fn peak_memory(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let peak = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kilobytes: u64 = peak.split_whitespace().next()?.parse().ok()?;
    Some(kilobytes * 1_024)
}

/// Busy and idle ticks of all processors.
fn machine() -> (u64, u64) {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    let mut fields = text.lines().next().unwrap_or_default().split_whitespace();
    fields.next();
    // user nice system idle iowait irq softirq steal; guest time is counted in user already.
    let fields: Vec<u64> = fields
        .take(8)
        .filter_map(|field| field.parse().ok())
        .collect();
    let idle: u64 = fields.iter().skip(3).take(2).sum();
    (fields.iter().sum::<u64>() - idle, idle)
}

fn time(ticks: u64) -> Duration {
    TICK * u32::try_from(ticks).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stat_line_is_read_whatever_the_name_is() {
        let line = "7 (a) b (c) S 3 7 7 0 -1 4194560 10 0 0 0 20 30 4 6 20 0 1 0 100 1 1";
        let stat = Stat::parse(line).unwrap();
        assert_eq!(
            (stat.name.as_str(), stat.parent, stat.ticks, stat.begun),
            ("a) b (c", 3, 60, 100)
        );
    }

    #[test]
    fn processes_that_do_not_run_have_no_number() {
        let status =
            "NAME  STATE  PID  ADDRESS\nkafka  running  12  a:1\nnotifier  stopped  -  a:2\n";
        assert_eq!(running(status), [("kafka".to_owned(), 12)]);
    }
}
