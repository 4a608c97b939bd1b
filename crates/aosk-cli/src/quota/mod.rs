//! `aosk quota`: what may be used, and what is used of it.
//!
//! A limit stands in the user's `config.toml`, where it is read when a kernel starts; what is used of
//! it is known only to the kernel that counts. So to set one is two things, in this order: the file
//! is changed, durably, then whoever works on the store is told. Whatever is cut off in between, the
//! next kernel has the new limit.

mod record;
mod set;
mod show;

use aosk_abi::Scarce;
use aosk_kernel::LimitStanding;

use crate::args::QuotaCommand;
use crate::config::{Folders, Settings};
use crate::error::Error;
use crate::exit::Exit;
use crate::figures::{count, moment};
use crate::print::Screen;

pub(crate) async fn quota(
    command: &QuotaCommand,
    settings: &Settings,
    folders: &Folders,
    screen: &Screen,
) -> Result<Exit, Error> {
    match command {
        QuotaCommand::Show(args) => show::show(args, settings, screen).await,
        QuotaCommand::Set(args) => set::set(args, settings, folders, screen).await,
    }
}

/// The limit as a person writes it: `60/minute`, `$5.00/day`, `8`.
pub(crate) fn limit(standing: &LimitStanding) -> String {
    let per = match standing.window_s {
        None => "",
        Some(1) => "/second",
        Some(60) => "/minute",
        Some(3_600) => "/hour",
        Some(86_400) => "/day",
        // Of money; months differ in length.
        Some(2_419_200..) if standing.scarce == Scarce::Money => "/month",
        Some(seconds) => return format!("{} in {seconds} s", amount(standing, standing.limit)),
    };
    format!("{}{per}", amount(standing, standing.limit))
}

/// So much of what the limit is about.
pub(crate) fn amount(standing: &LimitStanding, amount: u64) -> String {
    match standing.scarce {
        Scarce::Money => aosk_abi::MicroDollars(amount).to_string(),
        _ => count(amount),
    }
}

/// When all of it is there again.
pub(crate) fn resets(standing: &LimitStanding) -> String {
    standing.resets.map_or_else(|| "-".to_owned(), moment)
}
