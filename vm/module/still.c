// SPDX-License-Identifier: GPL-2.0-only
/*
 * Keeps out of the steps what the kernel does by a timer and user space cannot
 * switch off.
 *
 * flush_memcg_stats_dwork() adds up the statistics of all cgroups every two
 * seconds, and reclaim decides by the last sums: with one falling into a step,
 * the step may reclaim other pages. It is put off until the step has ended,
 * and the traced program has the sums made between its steps.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/kprobes.h>
#include <linux/workqueue.h>

#include "tlbdiff.h"

static bool step_under_way;

static int __kprobes on_flush_memcg_stats(struct kprobe *kprobe,
					  struct pt_regs *regs)
{
	struct work_struct *work;

	if (!READ_ONCE(step_under_way))
		return 0;

	/* Try again with the next tick, and return from the function at once. */
	work = (struct work_struct *)regs_get_kernel_argument(regs, 0);
	queue_delayed_work(system_unbound_wq, to_delayed_work(work), 1);
	instruction_pointer_set(regs, regs->ra);
	return 1;
}

static struct kprobe flush_memcg_stats = {
	.symbol_name = "flush_memcg_stats_dwork",
	.pre_handler = on_flush_memcg_stats,
};

/* A kernel without the function has nothing to put off. */
void still_install(void)
{
	int ret = register_kprobe(&flush_memcg_stats);

	if (ret) {
		flush_memcg_stats.pre_handler = NULL;
		pr_info("cannot hook %s (%d): its timer goes on during steps\n",
			flush_memcg_stats.symbol_name, ret);
	}
}

void still_remove(void)
{
	if (flush_memcg_stats.pre_handler)
		unregister_kprobe(&flush_memcg_stats);
}

void still_step(bool under_way)
{
	WRITE_ONCE(step_under_way, under_way);
}
