//! Where things lie while queues hold small numbers that point at them.

/// A place, and which of its tenants is meant: what is gone is told from what came after it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Place {
    pub slot: u32,
    pub generation: u32,
}

/// Values by place; places are used again.
#[derive(Debug)]
pub(super) struct Slab<T> {
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
}

#[derive(Debug)]
struct Slot<T> {
    generation: u32,
    value: Option<T>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self { slots: Vec::new(), free: Vec::new() }
    }
}

impl<T> Slab<T> {
    pub fn insert(&mut self, value: T) -> Place {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot { generation: 0, value: None });
            (self.slots.len() - 1) as u32
        });
        let place = &mut self.slots[slot as usize];
        place.value = Some(value);
        Place { slot, generation: place.generation }
    }

    pub fn remove(&mut self, slot: u32) -> Option<T> {
        let place = self.slots.get_mut(slot as usize)?;
        let value = place.value.take()?;
        place.generation = place.generation.wrapping_add(1);
        self.free.push(slot);
        Some(value)
    }

    pub fn get(&self, slot: u32) -> Option<&T> {
        self.slots.get(slot as usize)?.value.as_ref()
    }

    pub fn get_mut(&mut self, slot: u32) -> Option<&mut T> {
        self.slots.get_mut(slot as usize)?.value.as_mut()
    }

    pub fn place_of(&self, slot: u32) -> Place {
        let generation = self.slots.get(slot as usize).map_or(0, |slot| slot.generation);
        Place { slot, generation }
    }

    pub fn at(&self, place: Place) -> Option<&T> {
        self.slots.get(place.slot as usize).filter(|slot| slot.generation == place.generation)?.value.as_ref()
    }

    pub fn has(&self, place: Place) -> bool {
        self.slots.get(place.slot as usize).is_some_and(|slot| slot.generation == place.generation)
    }

    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.slots.iter().filter_map(|slot| slot.value.as_ref())
    }
}
