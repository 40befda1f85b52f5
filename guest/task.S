/*
 * What a modelled task executes: a loop that waits in its box for a command, does it, and tells.
 *
 * No CALL and no RET is here but those that a scenario asks for, and nothing of the loop's is on
 * the data stack: both stacks belong to the scenario.  Registers do not survive a signal
 * handler that ends on another task's frame, so who it is a task knows from its GS base.
 */
#include "layout.h"

	.text

/* A new image: the sequencer does not come back from C, a task comes back with its box. */
	.globl	_start
_start:
	mov	%rsp, %rdi
	and	$-16, %rsp
	call	guest_main
	mov	%rax, %r15
	mov	%rdx, %rsp

	.globl	task_loop
task_loop:
	mov	%gs:BOX_SELF, %r15
	xor	%eax, %eax
	rdsspq	%rax			/* nothing happens where shadow stacks are off */
	mov	%rax, BOX_SSP(%r15)
	mov	%rsp, BOX_RSP(%r15)
	mov	$NR_arch_prctl, %eax
	mov	$ARCH_SHSTK_STATUS, %edi
	lea	BOX_FEATURES(%r15), %rsi
	syscall
	mov	BOX_TAKEN(%r15), %eax
	mov	%eax, BOX_DONE(%r15)
	lock incl	SHARED + BELL
	cmpl	$0, SHARED + SLEEPING
	je	wait_for_command
	mov	$NR_futex, %eax
	mov	$(SHARED + BELL), %edi
	mov	$FUTEX_WAKE, %esi
	mov	$1, %edx
	syscall
wait_for_command:
	mov	BOX_COMMAND(%r15), %edx
	cmp	%edx, BOX_TAKEN(%r15)
	jne	take
	mov	$NR_futex, %eax
	lea	BOX_COMMAND(%r15), %rdi
	mov	$FUTEX_WAIT, %esi
	xor	%r10d, %r10d
	syscall
	mov	%gs:BOX_SELF, %r15
	mov	BOX_COMMAND(%r15), %edx
	cmp	%edx, BOX_TAKEN(%r15)
	je	task_loop		/* woken for something else: a handler has returned */
take:
	mov	%edx, BOX_TAKEN(%r15)
	movl	$0, BOX_VALID(%r15)
	mov	BOX_KIND(%r15), %rax
	jmp	*commands(, %rax, 8)

	.section .rodata
	.balign	8
commands:
	.quad	do_syscall, do_int80, do_clone, do_clone_int80
	.quad	do_call, do_call_next, do_ret, do_ret_8, do_ret_16, do_jmp, do_endbr64
	.quad	do_rdsspq, do_incsspq, do_incsspd, do_rstorssp, do_saveprevssp, do_pivot
	.quad	do_wrssq, do_wrssd, do_store, do_load, do_push, do_pop, do_mov_rsp
	.quad	do_setssbsy, do_clrssbsy, do_wrussq, do_wrussd, task_loop
	.text

/* ---- system calls ---------------------------------------------------------------- */

	.macro	syscall_registers
	mov	BOX_NUMBER(%r15), %rax
	mov	BOX_ARGUMENTS(%r15), %rdi
	mov	BOX_ARGUMENTS + 8(%r15), %rsi
	mov	BOX_ARGUMENTS + 16(%r15), %rdx
	mov	BOX_ARGUMENTS + 24(%r15), %r10
	mov	BOX_ARGUMENTS + 32(%r15), %r8
	mov	BOX_ARGUMENTS + 40(%r15), %r9
	.endm

	.macro	int80_registers
	mov	BOX_NUMBER(%r15), %rax
	mov	BOX_ARGUMENTS(%r15), %rbx
	mov	BOX_ARGUMENTS + 8(%r15), %rcx
	mov	BOX_ARGUMENTS + 16(%r15), %rdx
	mov	BOX_ARGUMENTS + 24(%r15), %rsi
	mov	BOX_ARGUMENTS + 32(%r15), %rdi
	mov	BOX_ARGUMENTS + 40(%r15), %rbp
	.endm

do_syscall:
	syscall_registers
	syscall
after_syscall:
	jmp	give_rax

do_int80:
	int80_registers
	int	$0x80
after_int80:
	jmp	give_rax

do_clone:
	mov	BOX_CHILD(%r15), %r12
	syscall_registers
	syscall
after_clone:
	test	%rax, %rax
	jz	new_task
	jmp	give_rax

do_clone_int80:
	mov	BOX_CHILD(%r15), %r12
	int80_registers
	int	$0x80
after_clone_int80:
	test	%rax, %rax
	jnz	give_rax

new_task:
	mov	$NR_arch_prctl, %eax
	mov	$ARCH_SET_GS, %edi
	mov	%r12, %rsi
	syscall
	mov	$NR_gettid, %eax
	syscall
	mov	%eax, BOX_TID(%r12)
	jmp	task_loop

give_rax:
	mov	%gs:BOX_SELF, %r15
	mov	%rax, BOX_RESULT(%r15)
	movl	$1, BOX_VALID(%r15)
	jmp	task_loop

/* ---- branches -------------------------------------------------------------------- */

	.balign	SITE_SIZE
	.globl	call_sites
call_sites:
	.rept	SITES
	.balign	SITE_SIZE
	call	task_loop
	jmp	task_loop
	.endr

do_call:
	mov	BOX_ARGUMENTS(%r15), %rax
	shl	$4, %rax
	add	$call_sites, %rax
	jmp	*%rax

do_call_next:
	call	1f
1:	jmp	task_loop

do_ret:
	ret

do_ret_8:
	ret	$8

do_ret_16:
	ret	$16

do_jmp:
	mov	BOX_ARGUMENTS(%r15), %rax
	jmp	*%rax

do_endbr64:
	endbr64
	jmp	task_loop

/* ---- the shadow stack ------------------------------------------------------------- */

do_rdsspq:
	xor	%eax, %eax
	rdsspq	%rax
	jmp	give_rax

do_incsspq:
	mov	BOX_ARGUMENTS(%r15), %rax
	incsspq	%rax
	jmp	task_loop

do_incsspd:
	mov	BOX_ARGUMENTS(%r15), %rax
	incsspd	%eax
	jmp	task_loop

do_rstorssp:
	mov	BOX_ARGUMENTS(%r15), %rax
	rstorssp	(%rax)
	jmp	task_loop

do_saveprevssp:
	clc				/* #GP with CF set, which this loop has used */
	saveprevssp
	jmp	task_loop

do_pivot:
	mov	BOX_ARGUMENTS(%r15), %rax
	rstorssp	(%rax)
	saveprevssp
	jmp	task_loop

	.macro	address_and_value
	mov	BOX_ARGUMENTS(%r15), %rax
	mov	BOX_ARGUMENTS + 8(%r15), %rdx
	.endm

do_wrssq:
	address_and_value
	wrssq	%rdx, (%rax)
	jmp	task_loop

do_wrssd:
	address_and_value
	wrssd	%edx, (%rax)
	jmp	task_loop

/* ---- memory and the data stack ------------------------------------------------------- */

do_store:
	address_and_value
	mov	%rdx, (%rax)
	jmp	task_loop

do_load:
	mov	BOX_ARGUMENTS(%r15), %rax
	mov	(%rax), %rax
	jmp	give_rax

do_push:
	push	BOX_ARGUMENTS(%r15)
	jmp	task_loop

do_pop:
	pop	%rax
	jmp	give_rax

do_mov_rsp:
	mov	BOX_ARGUMENTS(%r15), %rsp
	jmp	task_loop

/* ---- what only the kernel may do ----------------------------------------------------- */

do_setssbsy:
	setssbsy
	jmp	task_loop

do_clrssbsy:
	mov	BOX_ARGUMENTS(%r15), %rax
	clrssbsy	(%rax)
	jmp	task_loop

do_wrussq:
	address_and_value
	wrussq	%rdx, (%rax)
	jmp	task_loop

do_wrussd:
	address_and_value
	wrussd	%edx, (%rax)
	jmp	task_loop

/* ---- signals --------------------------------------------------------------------- */

/*
 * A handler takes down what its frame says and becomes the loop.  After a fault the frame is
 * made to lead to the loop, since a scenario does not repeat the instruction that has faulted;
 * where a system call was about to return, what it returned is told already now.
 */
	.globl	signal_handler
signal_handler:
	mov	%gs:BOX_SELF, %r15
	mov	BOX_HANDLED(%r15), %eax
	and	$7, %eax
	mov	%edi, BOX_SIGNALS(%r15, %rax, 4)
	incl	BOX_HANDLED(%r15)
	movslq	SI_CODE(%rsi), %rax
	test	%rax, %rax
	jle	1f
	mov	%rax, BOX_SI_CODE(%r15)
	mov	UC_TRAPNO(%rdx), %rax
	mov	%rax, BOX_TRAPNO(%r15)
	mov	UC_ERROR(%rdx), %rax
	mov	%rax, BOX_ERROR(%r15)
	mov	UC_ADDRESS(%rdx), %rax
	mov	%rax, BOX_ADDRESS(%r15)
	incq	BOX_FAULTS(%r15)
	movq	$task_loop, UC_RIP(%rdx)
	jmp	task_loop
1:	mov	UC_RIP(%rdx), %rcx
	cmp	$after_syscall, %rcx
	je	2f
	cmp	$after_int80, %rcx
	je	2f
	cmp	$after_clone, %rcx
	je	2f
	cmp	$after_clone_int80, %rcx
	jne	task_loop
2:	mov	UC_RAX(%rdx), %rax
	jmp	give_rax

	.globl	signal_restorer
signal_restorer:
	mov	$NR_rt_sigreturn, %eax
	syscall
	hlt

	.section .note.GNU-stack, "", @progbits
