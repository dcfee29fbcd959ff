// SPDX-License-Identifier: GPL-2.0-only
/*
 * Hooks at the entry of each function of arch/riscv/mm/tlbflush.c, and of the
 * SBI remote fence that many of them end in.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/cpumask.h>
#include <linux/hugetlb.h>
#include <linux/kprobes.h>
#include <linux/mm.h>

#include <asm/tlbbatch.h>
#include <asm/tlbflush.h>

#include "tlbdiff.h"

/* Harts 0 to 63 of @mask. */
static u64 __kprobes first_harts(const struct cpumask *mask)
{
	return cpumask_bits(mask)[0];
}

/*
 * For each function, how its arguments become a record. Each of these returns
 * the mm that the call is about, or NULL.
 */

static unsigned long __kprobes arg(struct pt_regs *regs, unsigned int n)
{
	return regs_get_kernel_argument(regs, n);
}

static struct mm_struct *__kprobes
on_flush_tlb_all(struct tlbdiff_record *rec, struct pt_regs *regs)
{
	rec->cpumask = first_harts(cpu_online_mask);
	return NULL;
}

/* Serves arch_flush_tlb_batched_pending() too. */
static struct mm_struct *__kprobes
on_flush_tlb_mm(struct tlbdiff_record *rec, struct pt_regs *regs)
{
	struct mm_struct *mm = (struct mm_struct *)arg(regs, 0);

	ring_fill_mm(rec, mm);
	return mm;
}

static struct mm_struct *__kprobes
on_flush_tlb_mm_range(struct tlbdiff_record *rec, struct pt_regs *regs)
{
	struct mm_struct *mm = (struct mm_struct *)arg(regs, 0);

	rec->start = arg(regs, 1);
	rec->end = arg(regs, 2);
	rec->arg = (unsigned int)arg(regs, 3);
	ring_fill_mm(rec, mm);
	return mm;
}

static struct mm_struct *__kprobes
on_flush_tlb_page(struct tlbdiff_record *rec, struct pt_regs *regs)
{
	struct vm_area_struct *vma = (struct vm_area_struct *)arg(regs, 0);

	rec->start = arg(regs, 1);
	rec->end = rec->start + PAGE_SIZE;
	ring_fill_mm(rec, vma->vm_mm);
	return vma->vm_mm;
}

/* Serves flush_pmd_tlb_range() and flush_pud_tlb_range() too. */
static struct mm_struct *__kprobes
on_flush_tlb_range(struct tlbdiff_record *rec, struct pt_regs *regs)
{
	struct vm_area_struct *vma = (struct vm_area_struct *)arg(regs, 0);

	rec->start = arg(regs, 1);
	rec->end = arg(regs, 2);
	if (is_vm_hugetlb_page(vma)) {
		rec->arg = huge_page_size(hstate_vma(vma));
		rec->flags |= TLBDIFF_F_HUGETLB;
	}
	ring_fill_mm(rec, vma->vm_mm);
	return vma->vm_mm;
}

static struct mm_struct *__kprobes
on_flush_tlb_kernel_range(struct tlbdiff_record *rec, struct pt_regs *regs)
{
	rec->start = arg(regs, 0);
	rec->end = arg(regs, 1);
	rec->cpumask = first_harts(cpu_online_mask);
	return NULL;
}

/* What arch_tlbbatch_add_pending() is where it takes a page, not a range. */
#define ADD_PENDING_OF_A_PAGE						\
	void (struct arch_tlbflush_unmap_batch *batch,			\
	      struct mm_struct *mm, unsigned long uaddr)

static struct mm_struct *__kprobes
on_tlbbatch_add_pending(struct tlbdiff_record *rec, struct pt_regs *regs)
{
	struct mm_struct *mm = (struct mm_struct *)arg(regs, 1);

	rec->start = arg(regs, 2);
	if (!__same_type(arch_tlbbatch_add_pending, ADD_PENDING_OF_A_PAGE))
		rec->end = arg(regs, 3);
	ring_fill_mm(rec, mm);
	return mm;
}

static struct mm_struct *__kprobes
on_tlbbatch_flush(struct tlbdiff_record *rec, struct pt_regs *regs)
{
	struct arch_tlbflush_unmap_batch *batch;

	batch = (struct arch_tlbflush_unmap_batch *)arg(regs, 0);
	rec->cpumask = first_harts(&batch->cpumask);
	return NULL;
}

static struct mm_struct *__kprobes
on_sbi_rfence(struct tlbdiff_record *rec, struct pt_regs *regs)
{
	const struct cpumask *mask = (const struct cpumask *)arg(regs, 0);

	if (!mask) {
		mask = cpu_online_mask;
		rec->flags |= TLBDIFF_F_ALL_HARTS;
	}
	rec->cpumask = first_harts(mask);
	rec->start = arg(regs, 1);
	rec->arg = arg(regs, 2);
	rec->end = rec->start + rec->arg;
	rec->asid = arg(regs, 3);
	return NULL;
}

/* How a function is hooked is known from here to the end of hooks_missed(). */
struct tlbdiff_hook {
	struct kprobe kprobe;
	u16 kind;
	struct mm_struct *(*fill)(struct tlbdiff_record *rec,
				  struct pt_regs *regs);
};

static int hook_hit(struct kprobe *kprobe, struct pt_regs *regs);

#define HOOK(function, _kind, _fill) {			\
	.kprobe.symbol_name = function,			\
	.kprobe.pre_handler = hook_hit,			\
	.kind = TLBDIFF_ ## _kind,			\
	.fill = _fill,					\
}

/* Kbuild finds out which of those that come and go this kernel has. */
static struct tlbdiff_hook hooks[] = {
	HOOK("flush_tlb_all", FLUSH_TLB_ALL, on_flush_tlb_all),
	HOOK("flush_tlb_mm", FLUSH_TLB_MM, on_flush_tlb_mm),
	HOOK("flush_tlb_mm_range", FLUSH_TLB_MM_RANGE, on_flush_tlb_mm_range),
	HOOK("flush_tlb_page", FLUSH_TLB_PAGE, on_flush_tlb_page),
	HOOK("flush_tlb_range", FLUSH_TLB_RANGE, on_flush_tlb_range),
#ifdef CONFIG_TRANSPARENT_HUGEPAGE
	HOOK("flush_pmd_tlb_range", FLUSH_PMD_TLB_RANGE, on_flush_tlb_range),
#ifdef HAS_FLUSH_PUD_TLB_RANGE
	HOOK("flush_pud_tlb_range", FLUSH_PUD_TLB_RANGE, on_flush_tlb_range),
#endif
#endif
	HOOK("flush_tlb_kernel_range", FLUSH_TLB_KERNEL_RANGE,
	     on_flush_tlb_kernel_range),
	HOOK("arch_tlbbatch_add_pending", TLBBATCH_ADD_PENDING,
	     on_tlbbatch_add_pending),
	HOOK("arch_tlbbatch_flush", TLBBATCH_FLUSH, on_tlbbatch_flush),
#ifdef HAS_BATCHED_PENDING
	HOOK("arch_flush_tlb_batched_pending", TLB_BATCHED_PENDING,
	     on_flush_tlb_mm),
#endif
	HOOK("sbi_remote_sfence_vma_asid", SBI_RFENCE, on_sbi_rfence),
};

static int __kprobes hook_hit(struct kprobe *kprobe, struct pt_regs *regs)
{
	struct tlbdiff_hook *hook;
	struct tlbdiff_record rec = {};
	struct mm_struct *mm;

	if (!ring_tracing())
		return 0;
	hook = container_of(kprobe, struct tlbdiff_hook, kprobe);
	rec.kind = hook->kind;
	mm = hook->fill(&rec, regs);
	ring_add(&rec, mm);
	return 0;
}

static void remove_first(size_t count)
{
	struct kprobe *kprobes[ARRAY_SIZE(hooks)];
	size_t i;

	/* All at once: there is a grace period to wait for each time. */
	for (i = 0; i < count; i++)
		kprobes[i] = &hooks[i].kprobe;
	unregister_kprobes(kprobes, count);
}

int hooks_install(void)
{
	size_t i;
	int ret;

	for (i = 0; i < ARRAY_SIZE(hooks); i++) {
		ret = register_kprobe(&hooks[i].kprobe);
		if (ret) {
			pr_err("cannot hook %s: kprobe refused with %d%s\n",
			       hooks[i].kprobe.symbol_name, ret,
			       IS_ENABLED(CONFIG_FUNCTION_TRACER) ?
			       " (needs a kernel without FUNCTION_TRACER)" : "");
			remove_first(i);
			return ret;
		}
	}
	return 0;
}

void hooks_remove(void)
{
	remove_first(ARRAY_SIZE(hooks));
}

/* How many entries were not recorded, being made from another kprobe. */
u64 hooks_missed(void)
{
	u64 missed = 0;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(hooks); i++)
		missed += READ_ONCE(hooks[i].kprobe.nmissed);
	return missed;
}
