//! What keys do. A key that ends something asks first.

use aosk_abi::{Pid, Priority};
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::view::{Prompt, View};
use crate::inbox;

/// What a key asks for that the screen cannot do itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Deed {
    /// To end.
    Quit,
    /// To leave a wish for a process.
    Wish(Pid, Wish),
}

/// What is wished of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    Kill,
    Stop,
    Cont,
    Renice(Priority),
}

impl From<Wish> for inbox::Wish {
    fn from(wish: Wish) -> Self {
        match wish {
            Wish::Kill => Self::Kill,
            Wish::Stop => Self::Stop,
            Wish::Cont => Self::Cont { limit: None },
            Wish::Renice(priority) => Self::Renice(priority),
        }
    }
}

impl View {
    /// A key was pressed.
    pub(super) fn press(&mut self, key: KeyEvent) -> Option<Deed> {
        let is_interrupt =
            key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL);
        if is_interrupt {
            return Some(Deed::Quit);
        }
        self.hush();
        match self.prompt.take() {
            Some(prompt) => self.answer(prompt, key.code),
            None => self.command(key.code),
        }
    }

    fn command(&mut self, code: KeyCode) -> Option<Deed> {
        let chosen = self.chosen();
        let wish = |wish| chosen.map(|pid| Deed::Wish(pid, wish));
        match code {
            KeyCode::Char('q') | KeyCode::Esc => return Some(Deed::Quit),
            KeyCode::Char('s') => return wish(Wish::Stop),
            KeyCode::Char('c') => return wish(Wish::Cont),
            KeyCode::Char('k') => self.prompt = chosen.map(Prompt::Kill),
            KeyCode::Char('r') => {
                self.prompt = chosen.map(|pid| Prompt::Renice(pid, String::new()));
            }
            KeyCode::Char('o') => self.sort_by_next(),
            KeyCode::Down => self.choose(1),
            KeyCode::Up => self.choose(-1),
            KeyCode::PageDown => self.choose(10),
            KeyCode::PageUp => self.choose(-10),
            _ => {}
        }
        None
    }

    fn answer(&mut self, prompt: Prompt, code: KeyCode) -> Option<Deed> {
        match (prompt, code) {
            (Prompt::Kill(pid), KeyCode::Char('y')) => Some(Deed::Wish(pid, Wish::Kill)),
            (Prompt::Renice(pid, mut typed), KeyCode::Char(digit @ '0'..='9')) => {
                // 0 to 99 has two digits.
                if typed.len() < 2 {
                    typed.push(digit);
                }
                self.prompt = Some(Prompt::Renice(pid, typed));
                None
            }
            (Prompt::Renice(pid, mut typed), KeyCode::Backspace) => {
                typed.pop();
                self.prompt = Some(Prompt::Renice(pid, typed));
                None
            }
            (Prompt::Renice(pid, typed), KeyCode::Enter) => {
                let priority = typed.parse().ok().and_then(|number| Priority::new(number).ok())?;
                Some(Deed::Wish(pid, Wish::Renice(priority)))
            }
            // Any other key takes it back.
            (Prompt::Kill(_) | Prompt::Renice(..), _) => None,
        }
    }
}
