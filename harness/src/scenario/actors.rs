// SPDX-License-Identifier: GPL-2.0-only
//! The part of checking that is about who acts: names, and who can do what when.

use super::checked::SUBJECT;
use super::checker::{Checked, Checker};
use super::errors::did_you_mean;
use super::file::{self, Count};
use operations::{Actor, ActorKind, Course, Op};
use serde_saphyr::{Location, Spanned};
use std::collections::BTreeMap;

/// Highest number of a hart: harts are bits of a word.
const LAST_HART: u64 = 62;

/// The most actors besides the subject: each takes a process or a thread, memory for it,
/// and a moment before the first step.
const MOST_ACTORS: usize = 500;

/// What an actor is at some point of the scenario.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Unborn,
    Alive,
    Exited,
}

/// The actors of a scenario, while its steps are checked one by one.
pub(super) struct Cast {
    pub actors: Vec<Actor>,
    pub names: Vec<String>,
    /// Whose each mm is.
    pub mms: Vec<String>,
    states: Vec<State>,
    running: Vec<bool>,
    acted: Vec<bool>,
    /// How often each has begun with a new mm.
    execs: Vec<usize>,
    /// The mm that each has, or had last; none for threads and those that were not forked.
    has: Vec<Option<usize>>,
    places: Vec<Location>,
    /// Harts that are offline, and the steps that made them so.
    pub offline: BTreeMap<u32, Location>,
}

impl Cast {
    fn add(&mut self, name: &str, kind: ActorKind, hart: u32, place: Location) {
        self.actors.push(Actor { kind, hart });
        self.names.push(name.to_owned());
        self.states.push(match kind {
            ActorKind::Fork => State::Unborn,
            ActorKind::Process { .. } | ActorKind::Thread { .. } => State::Alive,
        });
        self.running.push(false);
        self.acted.push(false);
        self.execs.push(0);
        self.has.push(kind.mm());
        self.places.push(place);
    }

    fn mm(&mut self, owner: &str) -> usize {
        self.mms.push(owner.to_owned());
        self.mms.len() - 1
    }

    /// A new mm for an actor that has had another.
    pub fn exec(&mut self, by: usize) -> usize {
        self.execs[by] += 1;
        let (name, execs) = (&self.names[by], self.execs[by]);
        // No actor's name has a prime.
        let name = match execs {
            1..=3 => format!("{name}{}", "'".repeat(execs)),
            more => format!("{name}'{more}"),
        };
        let mm = self.mm(&name);
        self.has[by] = Some(mm);
        mm
    }

    /// The mm that an actor of this scenario has at this point, or had when it ended.
    pub fn mm_of(&self, actor: usize) -> usize {
        let process = match self.actors[actor].kind {
            ActorKind::Thread { of } => of,
            ActorKind::Process { .. } | ActorKind::Fork => actor,
        };
        self.has[process].expect("who acts, or is acted on, has been born")
    }

    fn position(&self, name: &str) -> Option<usize> {
        self.names.iter().position(|actor| actor == name)
    }

    /// Who runs on a hart, if somebody does.
    pub fn running_on(&self, hart: u32) -> Option<&str> {
        let on = |actor: &usize| self.running[*actor] && self.actors[*actor].hart == hart;
        let running = (0..self.actors.len()).find(on)?;
        Some(&self.names[running])
    }

    /// An actor does something, or has something done to it: so has its process.
    fn involved(&mut self, actor: usize) {
        self.acted[actor] = true;
        if let ActorKind::Thread { of } = self.actors[actor].kind {
            self.acted[of] = true;
        }
    }

    fn living_threads_of(&self, leader: usize) -> impl Iterator<Item = usize> + use<'_> {
        let living = |thread: &usize| self.states[*thread] == State::Alive;
        self.threads_of(leader).filter(living)
    }

    fn threads_of(&self, leader: usize) -> impl Iterator<Item = usize> + use<> {
        let thread = ActorKind::Thread { of: leader };
        let threads = self.actors.iter().enumerate();
        let threads = threads.filter(move |(_, actor)| actor.kind == thread);
        threads
            .map(|(place, _)| place)
            .collect::<Vec<_>>()
            .into_iter()
    }
}

impl Checker<'_> {
    /// The actors as they are before the first step.
    pub(super) fn cast(&self, written: BTreeMap<String, Spanned<file::Actor>>) -> Checked<Cast> {
        let mut cast = Cast {
            actors: Vec::new(),
            names: Vec::new(),
            mms: Vec::new(),
            states: Vec::new(),
            running: Vec::new(),
            acted: Vec::new(),
            execs: Vec::new(),
            has: Vec::new(),
            places: Vec::new(),
            offline: BTreeMap::new(),
        };
        if let Some((_, actor)) = written.iter().nth(MOST_ACTORS) {
            let message = format!("too many actors: a scenario has at most {MOST_ACTORS}");
            return Err(self.error(actor.referenced, message));
        }
        let mm = cast.mm(SUBJECT);
        cast.add(SUBJECT, ActorKind::Process { mm }, 0, Location::UNKNOWN);
        // Threads last: they name what they are threads of.
        let (threads, others): (Vec<_>, Vec<_>) = written
            .into_iter()
            .partition(|(_, actor)| actor.value.kind == file::ActorKind::Thread);
        for (name, actor) in others.into_iter().chain(threads) {
            self.actor(&name, actor, &mut cast)?;
        }
        Ok(cast)
    }

    fn actor(&self, name: &str, actor: Spanned<file::Actor>, cast: &mut Cast) -> Checked<()> {
        let place = actor.referenced;
        let file::Actor { kind, of, hart } = actor.value;
        self.good_name(name, place)?;
        if name == SUBJECT {
            let message = "`subject` is there in every scenario, on hart 0";
            return Err(self.error(place, message));
        }
        let hart = match hart {
            Some(hart) => self.hart(&hart)?,
            None => 0,
        };
        let kind = match (kind, of) {
            (file::ActorKind::Thread, Some(of)) => self.thread_of(&of, cast)?,
            (file::ActorKind::Thread, None) => {
                return Err(self.error(place, "a thread says `of:`, whose it is"));
            }
            (_, Some(of)) => {
                return Err(self.error(of.referenced, "`of` is for threads"));
            }
            (file::ActorKind::Process, None) => ActorKind::Process { mm: cast.mm(name) },
            (file::ActorKind::Fork, None) => ActorKind::Fork,
        };
        cast.add(name, kind, hart, place);
        Ok(())
    }

    pub(super) fn hart(&self, hart: &Spanned<Count>) -> Checked<u32> {
        let number = self.number(hart, "the number of a hart")?;
        if number > LAST_HART {
            let message = format!("there is no hart {number}: they are numbered up to {LAST_HART}");
            return Err(self.error(hart.referenced, message));
        }
        Ok(number as u32)
    }

    fn thread_of(&self, of: &Spanned<String>, cast: &Cast) -> Checked<ActorKind> {
        let place = self.other(of, cast)?;
        match cast.actors[place].kind {
            ActorKind::Process { .. } => Ok(ActorKind::Thread { of: place }),
            ActorKind::Thread { .. } | ActorKind::Fork => {
                let message = "a thread is of the subject or of an actor of the kind `process`";
                Err(self.error(of.referenced, message))
            }
        }
    }

    /// An actor by name, in whatever state.
    pub(super) fn other(&self, name: &Spanned<String>, cast: &Cast) -> Checked<usize> {
        cast.position(&name.value).ok_or_else(|| {
            let known = cast.names.iter().map(String::as_str);
            let hint = did_you_mean(&name.value, known);
            let message = format!("no actor `{}` under `actors`", name.value);
            self.error(name.referenced, message).with_hint(hint)
        })
    }

    /// The actor on whose process a step acts; it may be gone by then.
    pub(super) fn target(&self, name: &Spanned<String>, cast: &mut Cast) -> Checked<usize> {
        let of = self.other(name, cast)?;
        if cast.states[of] == State::Unborn {
            let message = format!("`{}` has not been forked yet", name.value);
            return Err(self.error(name.referenced, message));
        }
        cast.involved(of);
        Ok(of)
    }

    /// Who does a step; it has to be alive.
    pub(super) fn acting(
        &self,
        by: Option<&Spanned<String>>,
        step: Location,
        cast: &Cast,
    ) -> Checked<usize> {
        let (actor, place) = match by {
            Some(by) => (self.other(by, cast)?, by.referenced),
            None => (0, step),
        };
        let name = &cast.names[actor];
        match cast.states[actor] {
            State::Alive => self.is_online(actor, place, cast).map(|()| actor),
            State::Unborn => Err(self.error(place, format!("`{name}` has not been forked yet"))),
            State::Exited => Err(self.error(place, format!("`{name}` has exited"))),
        }
    }

    /// Whoever has to run needs a hart that is online.
    pub(super) fn is_online(&self, actor: usize, place: Location, cast: &Cast) -> Checked<()> {
        let hart = cast.actors[actor].hart;
        if !cast.offline.contains_key(&hart) {
            return Ok(());
        }
        let message = format!(
            "`{}` is on hart {hart}, which is offline",
            cast.names[actor]
        );
        Err(self.error(place, message))
    }

    /// A fork: its child comes to life.
    pub(super) fn fork(&self, step: &file::Fork, cast: &mut Cast) -> Checked<Op> {
        let child = self.other(&step.child, cast)?;
        let place = step.child.referenced;
        let name = step.child.value.clone();
        if cast.actors[child].kind != ActorKind::Fork {
            let message = format!("`{name}` is not of the kind `fork`");
            return Err(self.error(place, message));
        }
        if cast.states[child] != State::Unborn {
            return Err(self.error(place, format!("`{name}` was forked before")));
        }
        self.is_online(child, place, cast)?;
        cast.states[child] = State::Alive;
        cast.acted[child] = true;
        let mm = cast.mm(&name);
        cast.has[child] = Some(mm);
        Ok(Op::Fork { child, mm })
    }

    /// What a step leaves behind, and whether it could have its hart.
    pub(super) fn acted(
        &self,
        by: usize,
        op: &Op,
        place: Location,
        cast: &mut Cast,
    ) -> Checked<()> {
        cast.involved(by);
        let course = op.course();
        let execs = matches!(course, Course::Exec { .. });
        if execs && matches!(cast.actors[by].kind, ActorKind::Thread { .. }) {
            return Err(self.error(place, "`exec` is for processes, not for threads"));
        }
        if matches!(course, Course::Exit | Course::Exec { .. }) {
            for thread in cast.living_threads_of(by) {
                self.is_online(thread, place, cast)?;
            }
        }
        self.harts_are_free(by, course, place, cast)?;
        cast.running[by] = course == Course::Run;
        match course {
            Course::Exit => self.gone(by, cast),
            Course::Ends(of) => self.killed((by, of), place, cast)?,
            // All other threads of the process end with its old mm.
            Course::Exec { .. } => {
                for thread in cast.threads_of(by) {
                    cast.states[thread] = State::Exited;
                    cast.running[thread] = false;
                }
            }
            Course::Returns
            | Course::Reclaims
            | Course::ActsOn(_)
            | Course::OfDevice(_)
            | Course::Fork { .. }
            | Course::Run => {}
        }
        Ok(())
    }

    /// Whoever runs has its hart for itself, so whatever a step needs has to be elsewhere:
    /// who does it, a child that comes to life, threads that have to die.
    fn harts_are_free(
        &self,
        by: usize,
        course: Course,
        place: Location,
        cast: &Cast,
    ) -> Checked<()> {
        // They die at once who run themselves, and do not stand in each other's way.
        let dies = matches!(course, Course::Exit | Course::Exec { .. });
        let dying: Vec<usize> = match dies {
            true => cast.living_threads_of(by).collect(),
            false => Vec::new(),
        };
        let holder = |needed: usize, excepted: &[usize]| {
            let hart = cast.actors[needed].hart;
            (0..cast.actors.len()).find(|other| {
                let holds = cast.running[*other] && cast.actors[*other].hart == hart;
                holds && *other != by && !excepted.contains(other)
            })
        };
        let own = holder(by, &[]).map(|holder| (by, holder));
        let born = match course {
            Course::Fork { child, .. } => Some(child),
            Course::Returns
            | Course::Reclaims
            | Course::ActsOn(_)
            | Course::OfDevice(_)
            | Course::Exec { .. }
            | Course::Exit
            | Course::Ends(_)
            | Course::Run => None,
        };
        let child = born.and_then(|child| Some((child, holder(child, &[])?)));
        let threads = dying
            .iter()
            .find_map(|thread| Some((*thread, holder(*thread, &dying)?)));
        let Some((needed, holder)) = own.or(child).or(threads) else {
            return Ok(());
        };
        let name = |actor: usize| cast.names[actor].as_str();
        let mut message = format!(
            "`{}` runs on hart {} and gives it to nobody",
            name(holder),
            cast.actors[holder].hart
        );
        if needed != by {
            let why = if child.is_some() {
                "come to life"
            } else {
                "die"
            };
            message = format!(
                "{message}, but `{}` would have to {why} there",
                name(needed)
            );
        }
        Err(self.error(place, message))
    }

    /// A process is killed by another one, which waits for its end.
    fn killed(&self, (by, of): (usize, usize), place: Location, cast: &mut Cast) -> Checked<()> {
        let name = &cast.names[of];
        if matches!(cast.actors[of].kind, ActorKind::Thread { .. }) {
            let message = format!("`{name}` is a thread: processes are killed");
            return Err(self.error(place, message));
        }
        if cast.states[of] == State::Exited {
            return Err(self.error(place, format!("`{name}` has exited")));
        }
        let own = match cast.actors[by].kind {
            ActorKind::Thread { of } => of,
            ActorKind::Process { .. } | ActorKind::Fork => by,
        };
        if own == of {
            return Err(self.error(place, "nobody kills itself: that is `exit`"));
        }
        for actor in cast.living_threads_of(of).chain([of]) {
            self.is_online(actor, place, cast)?;
        }
        self.gone(of, cast);
        Ok(())
    }

    fn gone(&self, actor: usize, cast: &mut Cast) {
        let gone: Vec<usize> = cast.threads_of(actor).chain([actor]).collect();
        for actor in gone {
            cast.states[actor] = State::Exited;
            cast.running[actor] = false;
        }
    }

    /// An actor that does nothing is a mistake.
    pub(super) fn all_act(&self, cast: &Cast) -> Checked<()> {
        if let Some((hart, place)) = cast.offline.first_key_value() {
            let message = format!("hart {hart} stays offline: `hart_online` has to follow");
            return Err(self.error(*place, message));
        }
        let idle = cast.acted.iter().skip(1).position(|acted| !acted);
        idle.map_or(Ok(()), |place| {
            let actor = place + 1;
            let message = format!("`{}` does nothing", cast.names[actor]);
            Err(self.error(cast.places[actor], message))
        })
    }
}
