/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the module's files know of one another.
 *
 * callers.c	who called: the return addresses on the stack, into the ring
 * count.c	what a step costs with so many subscribers
 * counters.c	the harts' counters
 * device.c	/dev/tlbdiff: system calls, loading, unloading
 * follow.c	processes that are born of attached ones
 * frames.c	page frames that are given back, into the ring
 * hooks.c	entries of functions, into the ring
 * probe.c	how a function's entry is hooked
 * notifiers.c	what the attached mms' notifiers get, into the ring
 * ring.c	the records, their order, and the numbers of the mms
 * secondary.c	another module, which drives a real secondary MMU (iommu/)
 * still.c	the kernel's timers, kept out of the steps
 * tables.c	what page tables hold, into the ring
 */
#ifndef TLBDIFF_H
#define TLBDIFF_H

#include <linux/atomic.h>
#include <linux/ftrace.h>
#include <linux/kprobes.h>
#include <linux/mm_types.h>
#include <linux/mmu_notifier.h>
#include <linux/refcount.h>
#include <linux/types.h>

#include "tlbdiff_uapi.h"

#ifndef CONFIG_MMU_NOTIFIER
#error "needs MMU_NOTIFIER, which something must select: KVM does"
#endif
#ifndef CONFIG_KPROBES
#error "needs KPROBES"
#endif

/*
 * An mm that attached. Stays, with its mm_struct, until the file is closed, or,
 * where it is followed, until it is released.
 */
struct tlbdiff_mm {
	struct hlist_node node;
	struct mm_struct *mm;
	u64 number;
	bool released;
	bool followed;	/* goes at its release, which nobody waits for */
	/* One ops with both kinds of callback is refused: so subscribe two. */
	struct mmu_notifier secondary_tlbs;
	struct mmu_notifier ranges;
	refcount_t notifiers;	/* of the two, not yet freed */
};

/* From any context; never sleep. */
bool ring_tracing(void);
void ring_add(struct tlbdiff_record *rec, struct mm_struct *mm);
void ring_fill_mm(struct tlbdiff_record *rec, struct mm_struct *mm);
void ring_mm_released(struct mm_struct *mm);
bool ring_has_mm(struct mm_struct *mm);

/* From the open file's system calls, one at a time. */
void ring_reset(void);
struct tlbdiff_record *ring_replace(struct tlbdiff_record *records,
				    u32 capacity);
void ring_trace(bool on);
void ring_status(struct tlbdiff_status *status, struct mm_struct *mm);
u32 ring_peek(const struct tlbdiff_record **records);
void ring_consume(u32 count);
u32 ring_capacity(void);
void ring_await_room(long ticks);
void ring_add_mm(struct tlbdiff_mm *tmm);
struct tlbdiff_mm *ring_remove_mm(struct mm_struct *mm);
struct mm_struct *ring_get_mm(u64 *number);
void ring_record_tables(void);

/* A callback of the function tracer has the function's arguments. */
#if defined(CONFIG_FUNCTION_TRACER) && \
	defined(CONFIG_DYNAMIC_FTRACE_WITH_ARGS)
#define PROBE_BY_FTRACE		1
#endif

/* Arguments that are looked at. */
#define PROBE_ARGS		4
/* Probes at once. */
#define PROBES_MAX		32

enum tlbdiff_probe_method {
	PROBE_NONE,
	PROBE_KPROBE,
	PROBE_FTRACE,
};

/* A function is being entered. */
struct tlbdiff_entry {
	unsigned long args[PROBE_ARGS];
	unsigned long ra;	/* the return address */
	unsigned long sp;	/* the stack pointer */
};

/* At the entry of a function. */
struct tlbdiff_probe {
	const char *function;
	/* Says whether the other function is to run in its stead. */
	bool (*hit)(struct tlbdiff_probe *probe,
		    const struct tlbdiff_entry *entry);
	/* Takes the same arguments. */
	void *instead;

	enum tlbdiff_probe_method method;
	struct kprobe kprobe;
#ifdef PROBE_BY_FTRACE
	struct ftrace_ops ops;
#endif
	atomic64_t missed;
};

int probe_install(struct tlbdiff_probe *probe);
void probes_remove(struct tlbdiff_probe **probes, size_t count);
u64 probe_missed(const struct tlbdiff_probe *probe);
u32 probe_original(unsigned long addr);

u64 callers_note(const struct tlbdiff_entry *entry);
void callers_begin(void);
void callers_end(void);

int follow_begin(void);
void follow_end(void);
u64 follow_missed(void);
void follow_slow_down(void);
void follow_range(const struct mmu_notifier_range *range);
void follow_wait(void);

int frames_install(void);
void frames_remove(void);
u64 frames_missed(void);
void frames_note(unsigned long pfn, unsigned long count);
void frames_forget(void);
void frames_free(void);

void tables_watch(unsigned long start, unsigned long end, u64 flags);
void tables_record(void);
void tables_record_before(struct mm_struct *mm, unsigned long start,
			  unsigned long end);
void tables_record_mm(struct mm_struct *mm);
unsigned long tables_record_part(struct mm_struct *mm, unsigned long start,
				 unsigned long end);
bool tables_running(void);

/* The entry that translates @addr in @mm, and how much it does; 0 for none. */
unsigned long tlbdiff_tables_find(struct mm_struct *mm, unsigned long addr,
				  unsigned long *size);

/* What a module that drives a real secondary MMU hears of. Sleeps where it wants. */
struct tlbdiff_secondary {
	struct module *owner;
	/* A trace begins: nothing is bound and nothing cached. */
	void (*begin)(void);
	/* The current task's @mm attached, and is called @number. */
	int (*bind)(struct mm_struct *mm, u64 number);
	void (*unbind)(struct mm_struct *mm);
	/* What the page tables hold after a step, one by one; does not sleep. */
	void (*leaf)(struct mm_struct *mm, unsigned long addr,
		     unsigned long size, unsigned long entry);
	void (*step_ended)(struct mm_struct *mm);
};

int tlbdiff_secondary_set(const struct tlbdiff_secondary *secondary);
void tlbdiff_secondary_add(struct tlbdiff_record *rec, struct mm_struct *mm);

void secondary_begin(void);
void secondary_end(void);
int secondary_bind(struct mm_struct *mm, u64 number);
void secondary_unbind(struct mm_struct *mm);
void secondary_leaf(struct mm_struct *mm, unsigned long addr,
		    unsigned long size, unsigned long entry);
void secondary_step_ended(struct mm_struct *mm);

int hooks_install(void);
void hooks_remove(void);
u64 hooks_missed(void);
u32 hooks_methods(void);

void still_install(void);
void still_remove(void);
void still_step(bool under_way);
int still_flush_stats(void);

int notifiers_attach(struct mm_struct *mm);
int notifiers_follow(struct mm_struct *mm, const bool *wanted);
int notifiers_detach(struct mm_struct *mm);
void notifiers_detach_all(void);
void notifiers_wait(void);
void notifiers_allocated(void);
void notifiers_freed(void);

int pages_map(struct vm_area_struct *vma);
int pages_zap(struct file *file, u64 start, u64 length);
void pages_free(void);

int count_subscribe(struct mm_struct *mm, u32 number);
void count_unsubscribe_all(void);
void count_begin(void);
void count_end(struct tlbdiff_count *count);

void counters_hold(void);
void counters_release(void);
void counters_read(u64 *cycles, u64 *instructions);

#endif
