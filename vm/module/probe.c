// SPDX-License-Identifier: GPL-2.0-only
/*
 * A probe at the entry of a function: a kprobe, or where the function tracer has
 * that place for itself, one of its callbacks.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/ftrace.h>
#include <linux/string.h>

#include "tlbdiff.h"

static int __kprobes kprobe_hit(struct kprobe *kprobe, struct pt_regs *regs)
{
	struct tlbdiff_probe *probe;
	struct tlbdiff_entry entry = {
		.ra = regs->ra,
		.sp = kernel_stack_pointer(regs),
	};
	unsigned int i;

	probe = container_of(kprobe, struct tlbdiff_probe, kprobe);
	for (i = 0; i < PROBE_ARGS; i++)
		entry.args[i] = regs_get_kernel_argument(regs, i);
	if (!probe->hit(probe, &entry))
		return 0;

	instruction_pointer_set(regs, (unsigned long)probe->instead);
	return 1;
}

#ifdef PROBE_BY_FTRACE
static void notrace ftrace_hit(unsigned long ip, unsigned long parent_ip,
			       struct ftrace_ops *ops,
			       struct ftrace_regs *fregs)
{
	struct tlbdiff_probe *probe = ops->private;
	struct tlbdiff_entry entry = {
		.ra = parent_ip,
		.sp = ftrace_regs_get_stack_pointer(fregs),
	};
	unsigned int i;
	int bit;

	bit = ftrace_test_recursion_trylock(ip, parent_ip);
	if (bit < 0) {
		atomic64_inc(&probe->missed);
		return;
	}
	for (i = 0; i < PROBE_ARGS; i++)
		entry.args[i] = ftrace_regs_get_argument(fregs, i);
	if (probe->hit(probe, &entry))
		ftrace_regs_set_instruction_pointer(fregs, (unsigned long)probe->instead);
	ftrace_test_recursion_unlock(bit);
}

static int install_ftrace(struct tlbdiff_probe *probe)
{
	struct ftrace_ops *ops = &probe->ops;
	int ret;

	memset(ops, 0, sizeof(*ops));
	ops->func = ftrace_hit;
	ops->private = probe;
	/* Not to be switched off by a sysctl, in the middle of a trace. */
	ops->flags = FTRACE_OPS_FL_PERMANENT;
	if (probe->instead)
		ops->flags |= FTRACE_OPS_FL_IPMODIFY;

	/*
	 * By its address, which the refused kprobe has found: by name, each
	 * of the kernel's functions would be looked at, for seconds.
	 */
	ret = ftrace_set_filter_ip(ops, (unsigned long)probe->kprobe.addr,
				   0, 0);
	if (ret)
		return ret;
	ret = register_ftrace_function(ops);
	if (ret)
		ftrace_free_filter(ops);
	return ret;
}

static void remove_ftrace(struct tlbdiff_probe *probe)
{
	unregister_ftrace_function(&probe->ops);
	ftrace_free_filter(&probe->ops);
}
#else
static int install_ftrace(struct tlbdiff_probe *probe)
{
	return -EINVAL;
}

static void remove_ftrace(struct tlbdiff_probe *probe)
{
}
#endif

/* The kprobes that are installed, in no order. */
static struct kprobe *installed[PROBES_MAX];

static void note_kprobe(struct kprobe *was, struct kprobe *is)
{
	unsigned int i;

	for (i = 0; i < PROBES_MAX; i++) {
		if (installed[i] == was) {
			WRITE_ONCE(installed[i], is);
			return;
		}
	}
}

/* The instruction at @addr whose place a kprobe of ours has taken, or 0. */
u32 __kprobes probe_original(unsigned long addr)
{
	unsigned int i;

	for (i = 0; i < PROBES_MAX; i++) {
		struct kprobe *kprobe = READ_ONCE(installed[i]);

		if (kprobe && (unsigned long)kprobe->addr == addr)
			return kprobe->opcode;
	}
	return 0;
}

int probe_install(struct tlbdiff_probe *probe)
{
	int ret;

	probe->kprobe = (struct kprobe) {
		.symbol_name = probe->function,
		.pre_handler = kprobe_hit,
	};
	ret = register_kprobe(&probe->kprobe);
	if (!ret) {
		probe->method = PROBE_KPROBE;
		note_kprobe(NULL, &probe->kprobe);
		return 0;
	}
	/* Refused for being where the function tracer's entry is. */
	if (ret == -EINVAL) {
		ret = install_ftrace(probe);
		if (!ret)
			probe->method = PROBE_FTRACE;
	}
	return ret;
}

/* All at once: there is a grace period to wait for each time. */
void probes_remove(struct tlbdiff_probe **probes, size_t count)
{
	struct kprobe *kprobes[PROBES_MAX];
	size_t i, found = 0;

	for (i = 0; i < count; i++) {
		if (probes[i]->method == PROBE_KPROBE) {
			note_kprobe(&probes[i]->kprobe, NULL);
			kprobes[found++] = &probes[i]->kprobe;
		} else if (probes[i]->method == PROBE_FTRACE) {
			remove_ftrace(probes[i]);
		}
		probes[i]->method = PROBE_NONE;
	}
	if (found)
		unregister_kprobes(kprobes, found);
}

/* How many entries went by, being made from another probe. */
u64 probe_missed(const struct tlbdiff_probe *probe)
{
	return READ_ONCE(probe->kprobe.nmissed) +
	       atomic64_read(&probe->missed);
}
