// SPDX-License-Identifier: GPL-2.0-only
/*
 * The hart's counters of cycles and instructions: through perf where a driver
 * has them, which stops those that nobody asked for; else by their CSRs.
 */
#include <linux/err.h>
#include <linux/irqflags.h>
#include <linux/percpu.h>
#include <linux/perf_event.h>
#include <asm/asm-extable.h>
#include <asm/csr.h>

#include "tlbdiff.h"

#define COUNTERS		2
#define CYCLES			0
#define INSTRUCTIONS		1

static u64 does_not_count(void)
{
	return 0;
}

static u64 (*read_cycles)(void) = does_not_count;
static u64 (*read_instructions)(void) = does_not_count;

/* Firmware may keep a counter to itself: then the read is an illegal instruction. */
#define read_csr_or_0(_csr) ({						\
	u64 _value = 0;							\
									\
	asm volatile("1:	csrr %0, " __ASM_STR(_csr) "\n"		\
		     "2:\n"						\
		     _ASM_EXTABLE(1b, 2b)				\
		     : "+r" (_value) : : "memory");			\
	_value;								\
})

static u64 read_cycle_csr(void)
{
	return read_csr_or_0(CSR_CYCLE);
}

static u64 read_instret_csr(void)
{
	return read_csr_or_0(CSR_INSTRET);
}

#ifdef CONFIG_PERF_EVENTS
struct held {
	struct perf_event *events[COUNTERS];
};

static DEFINE_PER_CPU(struct held, held);

/* What perf_event_read_local() does, which modules may not call. */
static u64 read_event(int counter)
{
	struct perf_event *event;
	unsigned long flags;
	u64 value = 0;

	local_irq_save(flags);
	event = this_cpu_read(held.events[counter]);
	if (event && READ_ONCE(event->state) == PERF_EVENT_STATE_ACTIVE) {
		event->pmu->read(event);
		value = local64_read(&event->count);
	}
	local_irq_restore(flags);
	return value;
}

static u64 read_cycles_event(void)
{
	return read_event(CYCLES);
}

static u64 read_instructions_event(void)
{
	return read_event(INSTRUCTIONS);
}

static void hold_event(int cpu, int counter, u64 config)
{
	struct perf_event_attr attr = {
		.type = PERF_TYPE_HARDWARE,
		.size = sizeof(attr),
		.config = config,
		.pinned = 1,
	};
	struct perf_event *event;

	event = perf_event_create_kernel_counter(&attr, cpu, NULL, NULL, NULL);
	per_cpu(held.events[counter], cpu) = IS_ERR(event) ? NULL : event;
}

static void hold_events(void)
{
	int cpu;

	for_each_online_cpu(cpu) {
		hold_event(cpu, CYCLES, PERF_COUNT_HW_CPU_CYCLES);
		hold_event(cpu, INSTRUCTIONS, PERF_COUNT_HW_INSTRUCTIONS);
	}
}

static void release_events(void)
{
	int cpu, counter;

	for_each_possible_cpu(cpu) {
		for (counter = 0; counter < COUNTERS; counter++) {
			struct perf_event *event = per_cpu(held.events[counter], cpu);

			per_cpu(held.events[counter], cpu) = NULL;
			if (event)
				perf_event_release_kernel(event);
		}
	}
}
#else
#define read_cycles_event	does_not_count
#define read_instructions_event	does_not_count

static void hold_events(void)
{
}

static void release_events(void)
{
}
#endif

#define TURNS			2000UL
#define TURN			2	/* instructions */

static void turn(unsigned long turns)
{
	asm volatile("1:	addi	%0, %0, -1\n"
		     "	bnez	%0, 1b\n"
		     : "+r" (turns) : : "memory");
}

static bool more_turns_are_more_instructions(u64 (*read)(void))
{
	const u64 right = TURNS * TURN;
	unsigned long flags;
	u64 begun, once, twice, more;

	local_irq_save(flags);
	begun = read();
	turn(TURNS);
	once = read() - begun;
	begun = read();
	turn(2 * TURNS);
	twice = read() - begun;
	local_irq_restore(flags);
	more = twice - once;
	return more >= right - right / 100 && more <= right + right / 100;
}

/*
 * Whether these are instructions. A counter may stand still, and an emulator
 * may give some clock for it. Now and then firmware gets in between.
 */
static bool counts_instructions(u64 (*read)(void))
{
	int trial, right = 0;

	for (trial = 0; trial < 8; trial++)
		right += more_turns_are_more_instructions(read);
	return right >= 6;
}

static bool counts(u64 (*read)(void))
{
	u64 begun = read();

	turn(TURNS);
	return read() != begun;
}

/*
 * May sleep. On the hart that is to be counted, before anything is. The CSRs
 * come second: they also run while somebody else counts, and stop with that.
 */
void counters_hold(void)
{
	hold_events();
	if (counts_instructions(read_instructions_event))
		read_instructions = read_instructions_event;
	else if (counts_instructions(read_instret_csr))
		read_instructions = read_instret_csr;
	if (counts(read_cycles_event))
		read_cycles = read_cycles_event;
	else if (counts(read_cycle_csr))
		read_cycles = read_cycle_csr;
}

void counters_release(void)
{
	read_cycles = does_not_count;
	read_instructions = does_not_count;
	release_events();
}

void counters_read(u64 *cycles, u64 *instructions)
{
	*cycles = read_cycles();
	*instructions = read_instructions();
}
