// SPDX-License-Identifier: GPL-2.0-only
/*
 * Another module may drive a real secondary MMU for the mms that attach. It is told
 * of them and, after each step, of what their page tables hold; what it saw of its
 * hardware goes into the same ring.
 *
 * It stays loaded as long as the file is open that found it there.
 */
#include <linux/export.h>
#include <linux/module.h>
#include <linux/mutex.h>

#include "tlbdiff.h"

/* Over who is there. */
static DEFINE_MUTEX(lock);
static const struct tlbdiff_secondary *there;

/* Whom the open file has found. Only its system calls touch it. */
static const struct tlbdiff_secondary *used;

/* NULL: nobody any more, of whom no file that is open knows. */
int tlbdiff_secondary_set(const struct tlbdiff_secondary *secondary)
{
	int ret = 0;

	mutex_lock(&lock);
	if (there && secondary)
		ret = -EBUSY;
	else
		there = secondary;
	mutex_unlock(&lock);
	return ret;
}
EXPORT_SYMBOL_GPL(tlbdiff_secondary_set);

/* For records of TLBDIFF_HELD and what follows it. */
void tlbdiff_secondary_add(struct tlbdiff_record *rec, struct mm_struct *mm)
{
	ring_add(rec, mm);
}
EXPORT_SYMBOL_GPL(tlbdiff_secondary_add);

/* A file is opened. */
void secondary_begin(void)
{
	mutex_lock(&lock);
	if (there && try_module_get(there->owner))
		used = there;
	mutex_unlock(&lock);
	if (used)
		used->begin();
}

/* It is closed, and no mm is attached any more. */
void secondary_end(void)
{
	if (used)
		module_put(used->owner);
	used = NULL;
}

int secondary_bind(struct mm_struct *mm, u64 number)
{
	return used ? used->bind(mm, number) : 0;
}

void secondary_unbind(struct mm_struct *mm)
{
	if (used)
		used->unbind(mm);
}

/* An entry of @mm's page tables when a step has ended, from under its table's lock. */
void secondary_leaf(struct mm_struct *mm, unsigned long addr,
		    unsigned long size, unsigned long entry)
{
	if (used)
		used->leaf(mm, addr, size, entry);
}

/* That was all of them. May sleep. */
void secondary_step_ended(struct mm_struct *mm)
{
	if (used)
		used->step_ended(mm);
}
