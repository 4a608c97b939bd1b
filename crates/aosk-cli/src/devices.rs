//! `aosk devices`: the endpoints as the daemon that asks them knows them.

use aosk_kernel::{DeviceStanding, ServerStanding, Serves, Standings};

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

/// What is worth a line of its own: the model behind another name, the names that lead to it, its
/// circuit or a pause, refusals, how fast a call is, what its server says, limits that were heard.
fn remarks(device: &DeviceStanding) -> Vec<(Ink, String)> {
    let mut remarks = Vec::new();
    // Under another name than its own it would be taken for another.
    if let Some(model) = device.model.as_ref().filter(|model| **model != device.name) {
        remarks.push((Ink::Quiet, format!("asks {}", one_line(model))));
    }
    if !device.serves.is_empty() {
        let names: Vec<String> = device.serves.iter().map(serves).collect();
        remarks.push((Ink::Quiet, format!("serves {}", names.join(", "))));
    }
    if let Some(circuit) = &device.circuit {
        let said = format!(
            "failed {} times in a row, open since {}: nobody asks it until {}, then one at a time",
            circuit.failures,
            time_of_day(circuit.since),
            time_of_day(circuit.until)
        );
        remarks.push((Ink::Warning, said));
    } else if let Some(until) = device.paused {
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
    remarks.extend(device.server.as_ref().map(|server| (Ink::Quiet, told(server))));
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

/// A name that leads to the device: with its weight, or that it is asked where others fail.
fn serves(name: &Serves) -> String {
    let alias = one_line(&name.alias);
    match name.weight {
        Some(weight) => format!("{alias} (weight {weight})"),
        None => format!("{alias} (where others fail)"),
    }
}

/// What its server says of itself.
pub(crate) fn told(server: &ServerStanding) -> String {
    let mut said = Vec::new();
    match (server.running, server.slots) {
        (Some(running), Some(slots)) => said.push(format!("{running} of {slots} slots busy")),
        (Some(running), None) => said.push(format!("{running} calls run")),
        (None, Some(slots)) => said.push(format!("{slots} slots")),
        (None, None) => {}
    }
    said.extend(server.waiting.map(|waiting| format!("{waiting} wait there")));
    let kv = match (server.kv_used_milli, server.kv_tokens) {
        (Some(used), Some(all)) => {
            let left = all.saturating_sub(all.saturating_mul(used) / 1_000);
            Some(format!("KV room {} of {} tokens", count(left), count(all)))
        }
        (Some(used), None) => Some(format!("KV {}.{} % in use", used / 10, used % 10)),
        (None, Some(all)) => Some(format!("KV of {} tokens", count(all))),
        (None, None) => None,
    };
    said.extend(kv);
    let rate = |milli: u64| format!("{}.{} tokens/s", milli / 1_000, milli % 1_000 / 100);
    said.extend(server.read_per_s_milli.map(|milli| format!("reads {}", rate(milli))));
    said.extend(server.written_per_s_milli.map(|milli| format!("writes {}", rate(milli))));
    format!("its server at {}: {}", time_of_day(server.at), said.join(", "))
}

#[cfg(test)]
mod tests {
    use aosk_abi::Timestamp;

    use super::*;

    #[test]
    fn what_a_server_tells_is_said_and_what_it_does_not_tell_is_not() {
        let at = Timestamp::from_millis(1_700_000_000_000);
        let mut server = ServerStanding {
            at,
            slots: Some(4),
            running: Some(2),
            waiting: Some(1),
            kv_tokens: Some(32_768),
            kv_used_milli: Some(250),
            read_per_s_milli: Some(161_428),
            written_per_s_milli: Some(71_537),
        };
        let said = told(&server);
        let all = "2 of 4 slots busy, 1 wait there, KV room 24k of 32k tokens, reads 161.4 \
                   tokens/s, writes 71.5 tokens/s";
        assert!(said.ends_with(all), "{said}");
        server = ServerStanding {
            slots: None,
            waiting: None,
            kv_tokens: None,
            read_per_s_milli: None,
            written_per_s_milli: None,
            ..server
        };
        assert!(told(&server).ends_with(": 2 calls run, KV 25.0 % in use"), "{}", told(&server));
    }
}
