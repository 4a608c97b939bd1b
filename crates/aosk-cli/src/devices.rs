//! `aosk devices`: the endpoints as the daemon that asks them knows them.

use aosk_kernel::{DeviceStanding, Standings};

use crate::args::Devices;
use crate::config::Settings;
use crate::daemon;
use crate::error::Error;
use crate::exit::Exit;
use crate::figures::{cached, count, moment, time_of_day, tokens};
use crate::print::{Ink, Screen, json};
use crate::quota::{amount, limit};
use crate::text::{self, one_line};

pub(crate) async fn devices(
    args: &Devices,
    settings: &Settings,
    screen: &Screen,
) -> Result<Exit, Error> {
    let Some(Standings { devices, .. }) = daemon::standings(settings).await? else {
        if !args.json {
            screen.err.wrapped(&format!(
                "No daemon runs, so nobody asks an endpoint for it. `aosk doctor` says which there \
                 are; `aosk spawn{}` starts one.",
                settings.same_store
            ));
        }
        return Ok(Exit::Failed);
    };
    if args.json {
        for device in &devices {
            screen.out.line(&json(device)?)?;
        }
        return Ok(Exit::Done);
    }
    if devices.is_empty() {
        screen.err.wrapped("No endpoint was asked for anything since the daemon began.");
        return Ok(Exit::Done);
    }
    let head =
        ["DEVICE", "FLIGHT", "SLOTS", "WAIT", "ANSWERED", "IN", "OUT", "TOK/S", "HIT", "COST"];
    let mut rows: Vec<Vec<String>> = vec![head.map(str::to_owned).into()];
    rows.extend(devices.iter().map(row));
    let numbers: Vec<usize> = (1..head.len()).collect();
    let mut lines = text::table(&rows, &numbers, &[0], screen.out.width()).into_iter();
    if let Some(head) = lines.next() {
        screen.out.line(&screen.out.paint(Ink::Strong, &head))?;
    }
    for (line, device) in lines.zip(&devices) {
        screen.out.line(&line)?;
        for (ink, said) in remarks(device) {
            for line in text::wrap(&format!("  {said}"), screen.out.width()) {
                screen.out.line(&screen.out.paint(ink, &line))?;
            }
        }
    }
    Ok(Exit::Done)
}

/// Slots as `8`, or `3 of 8` where it is given fewer calls than that.
pub(crate) fn slots(device: &DeviceStanding) -> String {
    match device.depth == device.slots {
        true => device.slots.to_string(),
        false => format!("{} of {}", device.depth, device.slots),
    }
}

fn row(device: &DeviceStanding) -> Vec<String> {
    vec![
        one_line(&device.name),
        device.in_flight.to_string(),
        slots(device),
        device.waiting.to_string(),
        count(device.answered),
        tokens(device.usage.input),
        tokens(device.usage.output),
        // Of the last minute.
        (device.output_last_minute / 60).to_string(),
        cached(&device.usage),
        device.cost.to_string(),
    ]
}

/// What is worth a line of its own: the model behind another name, a pause, refusals, how fast a call is, limits that were heard.
fn remarks(device: &DeviceStanding) -> Vec<(Ink, String)> {
    let mut remarks = Vec::new();
    // Under another name than its own it would be taken for another.
    if let Some(model) = device.model.as_ref().filter(|model| **model != device.name) {
        remarks.push((Ink::Quiet, format!("asks {}", one_line(model))));
    }
    if let Some(until) = device.paused {
        let said = format!("asked to be left alone until {}", time_of_day(until));
        remarks.push((Ink::Warning, said));
    }
    if device.refused > 0 {
        let said = format!("refused {} calls: too much to do", count(device.refused));
        remarks.push((Ink::Warning, said));
    }
    if !device.spoke {
        remarks.push((Ink::Quiet, "has not answered yet".to_owned()));
    } else if device.speed_milli > 0 {
        let (whole, tenth) = (device.speed_milli / 1_000, device.speed_milli % 1_000 / 100);
        remarks.push((Ink::Quiet, format!("{whole}.{tenth} tokens/s in one call")));
    }
    remarks.extend(device.heard.iter().map(|one| {
        let resets = one.resets.map(|at| format!(", whole again {}", moment(at)));
        let said = format!(
            "says: {} of {} {} used or held back{}",
            amount(one, one.used),
            limit(one),
            one.scarce.name(),
            resets.unwrap_or_default()
        );
        (Ink::Quiet, said)
    }));
    remarks
}
