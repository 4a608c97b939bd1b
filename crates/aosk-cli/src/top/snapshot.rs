//! What is shown: the store's list of processes joined with what the daemon counts.

use std::collections::HashMap;
use std::time::Duration;

use aosk_abi::{MicroDollars, Pid, Timestamp, Usage};
use aosk_kernel::{DeviceStanding, ProcessStanding, QuotaStanding, Standings};
use aosk_ports::Receipt;

use crate::config::Settings;
use crate::daemon;
use crate::error::Error;
use crate::processes::{Processes, Works, state_name, waits_for};
use crate::reader;
use crate::text::one_line;

/// How long a daemon may take to tell how it stands: a screen that is drawn each second does not
/// wait longer.
const PATIENCE: Duration = Duration::from_millis(800);

/// Everything at one moment.
#[derive(Debug, Clone, Default)]
pub(super) struct Snapshot {
    pub(super) at: Timestamp,
    pub(super) rows: Vec<Row>,
    pub(super) devices: Vec<DeviceStanding>,
    pub(super) quotas: Vec<QuotaStanding>,
    /// Why only the store is shown, where no daemon tells more.
    pub(super) lacks: Option<String>,
}

/// A process.
#[derive(Debug, Clone)]
pub(super) struct Row {
    pub(super) pid: Pid,
    pub(super) short: String,
    pub(super) name: String,
    pub(super) state: &'static str,
    /// How many tokens it was served less than its share; `None` where it wants none.
    pub(super) lag: Option<i64>,
    pub(super) steps: u64,
    pub(super) usage: Usage,
    pub(super) spent: MicroDollars,
    pub(super) waits_for: String,
}

impl Snapshot {
    pub(super) async fn take(settings: &Settings) -> Result<Self, Error> {
        let now = jiff::Timestamp::now().as_millisecond();
        let at = Timestamp::from_millis(u64::try_from(now).unwrap_or(0));
        let Some(reader) = reader::open(settings)? else {
            let lacks = Some("nothing was run in this store yet".to_owned());
            return Ok(Self { at, lacks, ..Self::default() });
        };
        let works = Works::ask(settings, &*reader).await?;
        let processes = Processes::read_unfinished(&*reader).await?;
        let (standings, lacks) =
            match tokio::time::timeout(PATIENCE, daemon::standings(settings)).await {
                Ok(Ok(Some(standings))) => (Some(standings), None),
                Ok(Ok(None)) if works.is_somebody() => {
                    (None, Some("queues and quotas are known to a daemon alone".to_owned()))
                }
                Ok(Ok(None)) => (None, Some("no daemon runs".to_owned())),
                Ok(Err(error)) => (None, Some(error.said())),
                Err(_) => (None, Some("the daemon does not answer".to_owned())),
            };
        let (devices, quotas, stands) = match standings {
            Some(Standings { devices, quotas, processes }) => (devices, quotas, processes),
            None => Default::default(),
        };
        let stands: HashMap<Pid, ProcessStanding> =
            stands.into_iter().map(|standing| (standing.pid, standing)).collect();
        let row = |receipt: &Receipt| {
            let standing = stands.get(&receipt.pid);
            let row = &receipt.row;
            Row {
                pid: receipt.pid,
                short: processes.short(receipt.pid),
                name: one_line(&row.name),
                state: state_name(receipt, &works),
                lag: standing.map(|standing| standing.lag),
                steps: row.steps,
                usage: row.usage,
                spent: row.spent,
                waits_for: waits_for(&row.state, standing),
            }
        };
        let rows = processes.unfinished().map(row).collect();
        Ok(Self { at, rows, devices, quotas, lacks })
    }
}
