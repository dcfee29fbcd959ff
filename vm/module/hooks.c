// SPDX-License-Identifier: GPL-2.0-only
/*
 * Hooks at the entry of each function of arch/riscv/mm/tlbflush.c, and of the
 * SBI remote fence that many of them end in.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/cpumask.h>
#include <linux/hugetlb.h>
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

static struct mm_struct *__kprobes
on_flush_tlb_all(struct tlbdiff_record *rec, const unsigned long *args)
{
	rec->cpumask = first_harts(cpu_online_mask);
	return NULL;
}

/* Serves arch_flush_tlb_batched_pending() too. */
static struct mm_struct *__kprobes
on_flush_tlb_mm(struct tlbdiff_record *rec, const unsigned long *args)
{
	struct mm_struct *mm = (struct mm_struct *)args[0];

	ring_fill_mm(rec, mm);
	return mm;
}

static struct mm_struct *__kprobes
on_flush_tlb_mm_range(struct tlbdiff_record *rec, const unsigned long *args)
{
	struct mm_struct *mm = (struct mm_struct *)args[0];

	rec->start = args[1];
	rec->end = args[2];
	rec->arg = (unsigned int)args[3];
	ring_fill_mm(rec, mm);
	return mm;
}

static struct mm_struct *__kprobes
on_flush_tlb_page(struct tlbdiff_record *rec, const unsigned long *args)
{
	struct vm_area_struct *vma = (struct vm_area_struct *)args[0];

	rec->start = args[1];
	rec->end = rec->start + PAGE_SIZE;
	ring_fill_mm(rec, vma->vm_mm);
	return vma->vm_mm;
}

/* Serves flush_pmd_tlb_range() and flush_pud_tlb_range() too. */
static struct mm_struct *__kprobes
on_flush_tlb_range(struct tlbdiff_record *rec, const unsigned long *args)
{
	struct vm_area_struct *vma = (struct vm_area_struct *)args[0];

	rec->start = args[1];
	rec->end = args[2];
	if (is_vm_hugetlb_page(vma)) {
		rec->arg = huge_page_size(hstate_vma(vma));
		rec->flags |= TLBDIFF_F_HUGETLB;
	}
	ring_fill_mm(rec, vma->vm_mm);
	return vma->vm_mm;
}

static struct mm_struct *__kprobes
on_flush_tlb_kernel_range(struct tlbdiff_record *rec, const unsigned long *args)
{
	rec->start = args[0];
	rec->end = args[1];
	rec->cpumask = first_harts(cpu_online_mask);
	return NULL;
}

/* What arch_tlbbatch_add_pending() is where it takes a page, not a range. */
#define ADD_PENDING_OF_A_PAGE						\
	void (struct arch_tlbflush_unmap_batch *batch,			\
	      struct mm_struct *mm, unsigned long uaddr)

static struct mm_struct *__kprobes
on_tlbbatch_add_pending(struct tlbdiff_record *rec, const unsigned long *args)
{
	struct mm_struct *mm = (struct mm_struct *)args[1];

	rec->start = args[2];
	if (!__same_type(arch_tlbbatch_add_pending, ADD_PENDING_OF_A_PAGE))
		rec->end = args[3];
	ring_fill_mm(rec, mm);
	return mm;
}

static struct mm_struct *__kprobes
on_tlbbatch_flush(struct tlbdiff_record *rec, const unsigned long *args)
{
	struct arch_tlbflush_unmap_batch *batch;

	batch = (struct arch_tlbflush_unmap_batch *)args[0];
	rec->cpumask = first_harts(&batch->cpumask);
	return NULL;
}

static struct mm_struct *__kprobes
on_sbi_rfence(struct tlbdiff_record *rec, const unsigned long *args)
{
	const struct cpumask *mask = (const struct cpumask *)args[0];

	if (!mask) {
		mask = cpu_online_mask;
		rec->flags |= TLBDIFF_F_ALL_HARTS;
	}
	rec->cpumask = first_harts(mask);
	rec->start = args[1];
	rec->arg = args[2];
	rec->end = rec->start + rec->arg;
	rec->asid = args[3];
	return NULL;
}

struct tlbdiff_hook {
	struct tlbdiff_probe probe;
	u16 kind;
	struct mm_struct *(*fill)(struct tlbdiff_record *rec,
				  const unsigned long *args);
};

static bool hook_hit(struct tlbdiff_probe *probe,
		     const struct tlbdiff_entry *entry);

#define HOOK(_function, _kind, _fill) {			\
	.probe.function = _function,			\
	.probe.hit = hook_hit,				\
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

static bool __kprobes hook_hit(struct tlbdiff_probe *probe,
			       const struct tlbdiff_entry *entry)
{
	struct tlbdiff_hook *hook;
	struct tlbdiff_record rec = {};
	struct mm_struct *mm;

	if (!ring_tracing())
		return false;
	hook = container_of(probe, struct tlbdiff_hook, probe);
	rec.kind = hook->kind;
	mm = hook->fill(&rec, entry->args);
	/* A fence is of the entry before it. */
	if (rec.kind != TLBDIFF_SBI_RFENCE)
		rec.chain = callers_note(entry);
	ring_add(&rec, mm);
	return false;
}

static bool installed;

static void remove_first(size_t count)
{
	struct tlbdiff_probe *probes[ARRAY_SIZE(hooks)];
	size_t i;

	BUILD_BUG_ON(ARRAY_SIZE(hooks) > PROBES_MAX);
	for (i = 0; i < count; i++)
		probes[i] = &hooks[i].probe;
	probes_remove(probes, count);
}

/* Also where they are installed already. */
int hooks_install(void)
{
	size_t i;
	int ret;

	if (installed)
		return 0;
	for (i = 0; i < ARRAY_SIZE(hooks); i++) {
		ret = probe_install(&hooks[i].probe);
		if (ret) {
			pr_err("cannot hook %s: neither by a kprobe nor by the function tracer (%d)\n",
			       hooks[i].probe.function, ret);
			remove_first(i);
			return ret;
		}
	}
	ret = frames_install();
	if (ret) {
		remove_first(ARRAY_SIZE(hooks));
		return ret;
	}
	installed = true;
	return 0;
}

void hooks_remove(void)
{
	if (installed) {
		frames_remove();
		remove_first(ARRAY_SIZE(hooks));
	}
	installed = false;
}

/* How many entries were not recorded, being made from another probe. */
u64 hooks_missed(void)
{
	u64 missed = frames_missed();
	size_t i;

	for (i = 0; i < ARRAY_SIZE(hooks); i++)
		missed += probe_missed(&hooks[i].probe);
	return missed;
}

/* Facts for HELLO: by which methods the functions are hooked. */
u32 hooks_methods(void)
{
	u32 methods = 0;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(hooks); i++)
		methods |= hooks[i].probe.method == PROBE_FTRACE ?
			   TLBDIFF_FACT_FTRACE : TLBDIFF_FACT_KPROBES;
	return methods;
}
