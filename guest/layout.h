/*
 * Where things are in every process of the guest, for C and for task.S.
 *
 * Nothing lies between the arena and the addresses that the kernel chooses, so that a
 * scenario's mappings are placed as if nothing but the scenario were there.
 */
#ifndef LAYOUT_H
#define LAYOUT_H

/* Shared by the sequencer and all tasks, also across execve(2): a page, then a box per slot. */
#define SHARED		0x08000000
#define BOXES		(SHARED + 0x1000)
#define BOX_SIZE	1024
#define MAX_SLOTS	128
#define SHARED_SIZE	(0x1000 + MAX_SLOTS * BOX_SIZE)

/* Private memory of each process: the data stacks. */
#define ARENA		0x10000000
#define ARENA_SIZE	0x10000000
#define STACK_SIZE	0x100000

/* In the shared page. */
#define BELL		0	/* counts what tasks have told; a futex */
#define SLEEPING	4	/* the sequencer waits for the bell */

/* In a box. */
#define BOX_SELF	0
#define BOX_COMMAND	8	/* number of the last command; a futex */
#define BOX_TAKEN	12	/* of the last one that the task has begun */
#define BOX_DONE	16	/* of the last one after which it was back in its loop */
#define BOX_VALID	20	/* RESULT was given by the last command begun */
#define BOX_RESULT	24
#define BOX_KIND	32
#define BOX_NUMBER	40	/* of the system call */
#define BOX_ARGUMENTS	48
#define BOX_SSP		96
#define BOX_RSP		104
#define BOX_FEATURES	112
#define BOX_TID		120
#define BOX_HANDLED	124	/* how many signal handlers were entered */
#define BOX_SIGNALS	128	/* the last eight of them */
#define BOX_SI_CODE	160	/* of the last that was a fault, from its frame */
#define BOX_TRAPNO	168
#define BOX_ERROR	176
#define BOX_ADDRESS	184
#define BOX_FAULTS	192	/* how many of them were faults */
#define BOX_CHILD	200	/* the box of the task that the command makes */
#define BOX_SCRATCH	256	/* memory for what system calls point to */

/* What a task can be told to do: an index into the table in task.S. */
#define DO_SYSCALL	0
#define DO_INT80	1
#define DO_CLONE	2
#define DO_CLONE_INT80	3
#define DO_CALL		4
#define DO_CALL_NEXT	5
#define DO_RET		6
#define DO_RET_8	7
#define DO_RET_16	8
#define DO_JMP		9
#define DO_ENDBR64	10
#define DO_RDSSPQ	11
#define DO_INCSSPQ	12
#define DO_INCSSPD	13
#define DO_RSTORSSP	14
#define DO_SAVEPREVSSP	15
#define DO_PIVOT	16
#define DO_WRSSQ	17
#define DO_WRSSD	18
#define DO_STORE	19
#define DO_LOAD		20
#define DO_PUSH		21
#define DO_POP		22
#define DO_MOV_RSP	23
#define DO_SETSSBSY	24
#define DO_CLRSSBSY	25
#define DO_WRUSSQ	26
#define DO_WRUSSD	27
#define DO_NOTHING	28

/* Places that CALL instructions are at. */
#define SITES		1024
#define SITE_SIZE	16
#define CALL_SIZE	5

#define NR_futex	202
#define NR_rt_sigreturn	15
#define NR_arch_prctl	158
#define NR_gettid	186
#define FUTEX_WAIT	0
#define FUTEX_WAKE	1

#define ARCH_SET_GS		0x1001
#define ARCH_SHSTK_ENABLE	0x5001
#define ARCH_SHSTK_DISABLE	0x5002
#define ARCH_SHSTK_LOCK		0x5003
#define ARCH_SHSTK_UNLOCK	0x5004
#define ARCH_SHSTK_STATUS	0x5005

/* In the kernel's struct ucontext and siginfo (x86-64). */
#define UC_RAX		144
#define UC_RIP		168
#define UC_ERROR	192
#define UC_TRAPNO	200
#define UC_ADDRESS	216
#define SI_CODE		8

#endif
