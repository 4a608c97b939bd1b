//! Drawing: a head, the endpoints, the quotas, the processes, and what keys do.
//!
//! What does not fit gives way in this order: quotas, endpoints, the last columns of a line. The list of
//! processes keeps a third of the screen at least.

use aosk_abi::{Scarce, Usage};
use aosk_kernel::{DeviceStanding, LimitStanding, QuotaStanding};
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Paragraph, Row as TableRow, Table, TableState};

use super::snapshot::Row;
use super::view::{Prompt, View};
use crate::devices::slots;
use crate::figures::{cached, count, signed, time_of_day};
use crate::quota::{amount, limit};
use crate::text::one_line;

/// What the keys do, the most needed first.
const KEYS: &str = "q quit  k kill  s stop  c cont  r renice  o sort  up/down";

pub(super) fn draw(frame: &mut Frame<'_>, view: &View) {
    let area = frame.area();
    let third = area.height / 3;
    let devices = device_lines(view);
    let quotas = quota_lines(view);
    let devices_get = rows(devices.len()).min(third);
    let quotas_get = rows(quotas.len()).min(third.saturating_sub(devices_get).max(1));
    let layout = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(devices_get),
        Constraint::Length(quotas_get),
        Constraint::Min(1),
        Constraint::Length(1),
    ]);
    let [head, pools, limits, list, foot] = layout.areas(area);
    frame.render_widget(Paragraph::new(head_line(view)), head);
    frame.render_widget(Paragraph::new(devices), pools);
    frame.render_widget(Paragraph::new(quotas), limits);
    processes(frame, view, list);
    frame.render_widget(Paragraph::new(foot_line(view)), foot);
}

fn rows(lines: usize) -> u16 {
    u16::try_from(lines).unwrap_or(u16::MAX)
}

fn head_line(view: &View) -> Line<'static> {
    let now = &view.now;
    let in_state = |state| now.rows.iter().filter(|row| row.state == state).count();
    let mut usage = Usage::default();
    now.devices.iter().for_each(|device| usage += device.usage);
    let per_second: u64 = now.devices.iter().map(|device| device.output_last_minute / 60).sum();
    let spent = now.rows.iter().map(|row| row.spent).sum::<aosk_abi::MicroDollars>();
    let time = time_of_day(now.at);
    // To the second.
    let time = time.split('.').next().unwrap_or_default();
    let mut said = format!(
        "{time}  {} agents: {} running, {} ready, {} blocked  {per_second} tok/s  hit {}  {spent}",
        now.rows.len(),
        in_state("running"),
        in_state("ready"),
        in_state("blocked"),
        cached(&usage),
    );
    if let Some(lacks) = &now.lacks {
        said = format!("{said}  ({})", one_line(lacks));
    }
    Line::styled(said, Style::new().add_modifier(Modifier::BOLD))
}

fn device_lines(view: &View) -> Vec<Line<'static>> {
    let device = |device: &DeviceStanding| {
        let mut said = format!(
            "{}: {} in flight, {} slots, {} wait, {} tok/s, hit {}, {}",
            one_line(&device.name),
            device.in_flight,
            slots(device),
            device.waiting,
            device.output_last_minute / 60,
            cached(&device.usage),
            device.cost,
        );
        let mut style = Style::new();
        let kv = device.server.as_ref().and_then(|server| server.kv_used_milli);
        if let Some(milli) = kv {
            said = format!("{said}, KV {} %", milli / 10);
        }
        if let Some(circuit) = &device.circuit {
            let until = time_of_day(circuit.until);
            said = format!("{said}, failed {} times: not asked until {until}", circuit.failures);
            style = style.fg(Color::Red);
        } else if let Some(until) = device.paused {
            said = format!("{said}, left alone until {}", time_of_day(until));
            style = style.fg(Color::Yellow);
        }
        Line::styled(said, style)
    };
    view.now.devices.iter().map(device).collect()
}

fn quota_lines(view: &View) -> Vec<Line<'static>> {
    let of = |quota: &QuotaStanding, one: &LimitStanding| {
        let used = amount(one, one.used.saturating_add(one.reserved));
        let style = match one.percent() {
            95.. => Style::new().fg(Color::Red),
            80.. => Style::new().fg(Color::Yellow),
            _ => Style::new(),
        };
        let owner = one_line(&quota.owner);
        Span::styled(format!("{owner} {}: {used} of {}", what(one.scarce), limit(one)), style)
    };
    let shared = view.now.quotas.iter().filter(|quota| quota.pid.is_none());
    shared.flat_map(|quota| quota.limits.iter().map(move |one| of(quota, one).into())).collect()
}

const fn what(scarce: Scarce) -> &'static str {
    match scarce {
        Scarce::Requests => "calls",
        Scarce::Input => "in",
        Scarce::Output => "out",
        Scarce::Money => "money",
        Scarce::Calls => "at once",
        Scarce::Pause => "pause",
    }
}

/// The columns of the list with the least that each needs; that of pids is as wide as they are.
const COLUMNS: [(&str, u16); 9] = [
    ("PID", 8),
    ("NAME", 10),
    ("STATE", 11),
    ("LAG", 6),
    ("STEP", 4),
    ("TOKENS", 6),
    ("HIT", 4),
    ("COST", 7),
    ("WAITS FOR", 9),
];

/// The widest that pids are shown: a whole one has 36 characters.
const WIDEST_PID: usize = 18;

fn processes(frame: &mut Frame<'_>, view: &View, area: Rect) {
    let pids = view.now.rows.iter().map(|row| row.short.len()).max().unwrap_or(0);
    let mut widths = COLUMNS.map(|(_, width)| width);
    widths[0] = widths[0].max(rows(pids.min(WIDEST_PID)));
    let mut taken = 0;
    let fits = widths.iter().take_while(|width| {
        taken += **width + u16::from(taken > 0);
        taken <= area.width
    });
    // What is left goes to the last column that is shown.
    let shown = fits.count().max(1);
    let constraints = widths.iter().take(shown).enumerate();
    let constraints = constraints.map(|(index, width)| match index + 1 == shown {
        true => Constraint::Min(*width),
        false => Constraint::Length(*width),
    });
    let strong = Style::new().add_modifier(Modifier::BOLD);
    let head = TableRow::new(COLUMNS.iter().take(shown).map(|(name, _)| *name));
    let table = Table::new(view.now.rows.iter().map(|row| line(row, shown)), constraints)
        .header(head.style(strong))
        .column_spacing(1)
        .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED));
    let mut state = TableState::new().with_selected(view.mark());
    frame.render_stateful_widget(table, area, &mut state);
}

fn line(row: &Row, shown: usize) -> TableRow<'static> {
    let style = match row.state {
        "running" => Style::new().fg(Color::Green),
        "blocked" | "suspended" | "interrupted" => Style::new().fg(Color::Yellow),
        _ => Style::new(),
    };
    let tokens = row.usage.input.0.saturating_add(row.usage.output.0);
    let cells = [
        row.short.clone(),
        row.name.clone(),
        row.state.to_owned(),
        row.lag.map_or_else(|| "-".to_owned(), signed),
        count(row.steps),
        count(tokens),
        cached(&row.usage),
        row.spent.to_string(),
        row.waits_for.clone(),
    ];
    TableRow::new(cells.into_iter().take(shown)).style(style)
}

fn foot_line(view: &View) -> Line<'static> {
    let of =
        |pid| view.row(pid).map_or_else(String::new, |row| format!("{} ({})", row.short, row.name));
    let said = match (&view.prompt, &view.said) {
        (Some(Prompt::Kill(pid)), _) => format!("kill {}? y: yes, any other key: no", of(*pid)),
        (Some(Prompt::Renice(pid, typed)), _) => {
            format!("priority of {}, 0 (most important) to 99: {typed}_", of(*pid))
        }
        (None, Some(said)) => one_line(said),
        (None, None) => format!("{KEYS}  (by {})", view.sort.name()),
    };
    Line::styled(said, Style::new().add_modifier(Modifier::DIM))
}

#[cfg(test)]
mod tests {
    use aosk_abi::{MicroDollars, Pid, Timestamp, Tokens};
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

    use super::super::keys::{Deed, Wish};
    use super::super::snapshot::Snapshot;
    use super::super::view::Sort;
    use super::*;

    fn pid(number: u8) -> Pid {
        Pid::from_parts(1_700_000_000_000, [number; 10])
    }

    fn row(number: u8, name: &str, lag: Option<i64>, spent: u64) -> Row {
        Row {
            pid: pid(number),
            short: format!("0199f3a{number}"),
            name: name.to_owned(),
            state: if lag.is_some() { "ready" } else { "blocked" },
            lag,
            steps: 12,
            usage: Usage { input: Tokens(90_000), cached: Tokens(45_000), ..Usage::default() },
            spent: MicroDollars(spent),
            waits_for: "turn at gpt-5-mini".to_owned(),
        }
    }

    fn view(sort: Sort) -> View {
        let limit = |used| LimitStanding {
            scarce: Scarce::Money,
            limit: 5_000_000,
            window_s: Some(86_400),
            used,
            reserved: 100_000,
            resets: None,
        };
        let quota = |owner: &str, used| QuotaStanding {
            owner: owner.to_owned(),
            pid: None,
            limits: vec![limit(used)],
        };
        let device = DeviceStanding {
            serves: Vec::new(),
            circuit: None,
            server: None,
            name: "gpt-5-mini".to_owned(),
            model: Some("gpt-5-mini-2026".to_owned()),
            slots: 8,
            depth: 4,
            in_flight: 3,
            waiting: 2,
            paused: Some(Timestamp::from_millis(1_700_000_009_000)),
            spoke: true,
            answered: 70,
            refused: 1,
            usage: Usage { input: Tokens(100), cached: Tokens(73), ..Usage::default() },
            cost: MicroDollars(1_230_000),
            output_last_minute: 7_680,
            speed_milli: 61_000,
            heard: Vec::new(),
        };
        let rows = vec![
            row(1, "writer", Some(-700), 10_000),
            row(2, "reader", Some(1_400), 990_000),
            row(3, "critic", None, 20_000),
        ];
        let (devices, quotas) = (vec![device], vec![quota("tenant local", 4_800_000)]);
        let at = Timestamp::from_millis(1_700_000_000_000);
        View::new(Snapshot { at, rows, devices, quotas, lacks: None }, sort)
    }

    fn drawn(view: &View, columns: u16, lines: u16) -> Vec<String> {
        let mut terminal = Terminal::new(TestBackend::new(columns, lines)).expect("a screen");
        terminal.draw(|frame| draw(frame, view)).expect("drawn");
        let buffer = terminal.backend().buffer().clone();
        let line = |y| (0..columns).map(|x| buffer[(x, y)].symbol()).collect::<String>();
        (0..lines).map(|y| line(y).trim_end().to_owned()).collect()
    }

    fn press(view: &mut View, keys: &str) -> Option<Deed> {
        let key = |c| match c {
            '\n' => KeyCode::Enter,
            '<' => KeyCode::Backspace,
            'v' => KeyCode::Down,
            c => KeyCode::Char(c),
        };
        let press = |view: &mut View, c| view.press(KeyEvent::new(key(c), KeyModifiers::NONE));
        keys.chars().map(|c| press(view, c)).last().flatten()
    }

    #[test]
    fn everything_is_seen_in_eighty_columns_and_twenty_four_lines() {
        let lines = drawn(&view(Sort::Lag), 80, 24);
        let said = lines.join("\n");
        for part in [
            "3 agents: 0 running, 2 ready, 1 blocked  128 tok/s  hit 73%  $1.02",
            "gpt-5-mini: 3 in flight, 4 of 8 slots, 2 wait, 128 tok/s, hit 73%, $1.23",
            "tenant local money: $4.90 of $5.00/day",
            "PID      NAME       STATE       LAG    STEP TOKENS HIT  COST    WAITS FOR",
            "0199f3a2 reader     ready       1.4k   12   90k    50%  $0.99   turn at gpt-",
            "q quit  k kill  s stop  c cont  r renice  o sort  up/down  (by lag)",
        ] {
            assert!(said.contains(part), "{part:?} is not in\n{said}");
        }
        let place = |name| lines.iter().position(|line| line.contains(name)).expect("a line");
        assert!(place("reader") < place("writer") && place("writer") < place("critic"), "{said}");
    }

    #[test]
    fn a_screen_of_any_size_is_drawn_and_keeps_the_list_while_it_can() {
        let view = view(Sort::Cost);
        for columns in [1, 2, 20, 79, 80, 81, 300] {
            for lines in [1, 2, 3, 5, 10, 24, 100] {
                let said = drawn(&view, columns, lines).join("\n");
                if columns >= 20 && lines >= 10 {
                    assert!(said.contains("0199f3a2"), "{columns} x {lines}\n{said}");
                }
            }
        }
        let mut many = view;
        let device = many.now.devices[0].clone();
        many.now.devices = (0..50).map(|_| device.clone()).collect();
        let said = drawn(&many, 80, 24).join("\n");
        assert!(said.contains("PID") && said.contains("0199f3a1"), "{said}");
    }

    #[test]
    fn keys_ask_before_they_kill_and_do_what_they_say() {
        let mut view = view(Sort::Lag);
        assert_eq!(view.chosen(), Some(pid(2)), "the first line is marked");
        assert_eq!(press(&mut view, "s"), Some(Deed::Wish(pid(2), Wish::Stop)));
        assert_eq!(press(&mut view, "vc"), Some(Deed::Wish(pid(1), Wish::Cont)));
        assert_eq!(press(&mut view, "k"), None);
        assert!(drawn(&view, 80, 24)[23].contains("kill 0199f3a1 (writer)?"));
        assert_eq!(press(&mut view, "n"), None, "any other key takes it back");
        assert_eq!(press(&mut view, "y"), None);
        assert_eq!(press(&mut view, "ky"), Some(Deed::Wish(pid(1), Wish::Kill)));
        let renice = |keys: &str, view: &mut View| match press(view, keys) {
            Some(Deed::Wish(_, Wish::Renice(priority))) => Some(priority.get()),
            _ => None,
        };
        assert_eq!(renice("r99\n", &mut view), Some(99));
        assert_eq!(renice("r0\n", &mut view), Some(0));
        assert_eq!(renice("r123\n", &mut view), Some(12), "there are no three digits");
        assert_eq!(renice("r1<7\n", &mut view), Some(7));
        assert_eq!(renice("r\n", &mut view), None);
        // The mark stays with its process when lines move, and goes on where that has ended.
        press(&mut view, "o");
        assert_eq!((view.chosen(), view.sort.name()), (Some(pid(1)), "cost"));
        let mut newer = view.now.clone();
        newer.rows.retain(|row| row.pid != pid(1));
        view.see(Ok(newer));
        assert!(view.chosen().is_some_and(|chosen| chosen != pid(1)));
        view.see(Ok(Snapshot::default()));
        assert_eq!((press(&mut view, "k"), view.prompt.clone()), (None, None), "nobody is there");
        let interrupt = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        assert_eq!(view.press(interrupt), Some(Deed::Quit));
        assert_eq!(press(&mut view, "q"), Some(Deed::Quit));
    }
}
