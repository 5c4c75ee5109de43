"""einsum: permutations, products and sums named by letters."""


def _parse(equation, operands):
    equation = equation.replace(" ", "")
    left, arrow, right = equation.partition("->")
    terms = left.split(",")
    if len(terms) != len(operands):
        raise RuntimeError(
            f"einsum(): {'more' if len(operands) > len(terms) else 'fewer'} operands were provided than specified in "
            "the equation"
        )
    # "..." stands for as many new letters as the operand has unnamed dimensions.
    extra = 0
    expanded = []
    for term, t in zip(terms, operands):
        names = term.replace("...", "")
        if not all(c.isalpha() for c in names):
            raise RuntimeError(f"einsum(): invalid subscript given: {term}")
        rest = t.dim() - len(names)
        if rest < 0 or (rest and "..." not in term):
            raise RuntimeError(
                f"einsum(): the number of subscripts in the equation ({len(names)}) does not match the number of "
                "dimensions "
                f"({t.dim()}) for an operand"
            )
        extra = max(extra, rest)
        expanded.append((term, rest))
    hidden = [chr(0x100 + i) for i in range(extra)]
    terms = [list(term.replace("...", "".join(hidden[extra - rest :]))) for term, rest in expanded]
    if arrow:
        out = list(right.replace("...", "".join(hidden)))
    else:
        flat = [c for term in terms for c in term if c not in hidden]
        out = hidden + sorted(c for c in set(flat) if flat.count(c) == 1)
    for c in out:
        if out.count(c) > 1:
            raise RuntimeError(f"einsum(): output subscript {c} appears more than once in the output")
        if not any(c in term for term in terms):
            raise RuntimeError(f"einsum(): output subscript {c} does not appear in the equation for any input operand")
    return terms, out


def _diagonals(t, names):
    """A letter named twice in one operand means its diagonal."""
    names = list(names)
    for c in dict.fromkeys(names):
        while names.count(c) > 1:
            i = names.index(c)
            j = names.index(c, i + 1)
            if t.size(i) != t.size(j):
                raise RuntimeError(
                    f"einsum(): subscript {c} is repeated for an operand but the sizes don't match, {t.size(i)} != "
                    f"{t.size(j)}"
                )
            t = t.diagonal(0, i, j)
            names = [n for k, n in enumerate(names) if k not in (i, j)] + [c]
    return t, names


def _order(t, names, wanted):
    """t with dimensions in the order `wanted`, of size 1 where it has no such letter."""
    have = [n for n in wanted if n in names]
    t = t.permute(*[names.index(n) for n in have]) if have else t
    for i, n in enumerate(wanted):
        if n not in names:
            t = t.unsqueeze(i)
    return t


def _contract(a, a_names, b, b_names, keep):
    """The product of two operands, summed over the letters that nothing later needs; as one batched matmul."""
    both = [n for n in a_names if n in b_names]
    batch = [n for n in both if n in keep]
    inner = [n for n in both if n not in keep]
    # Letters of one operand that nobody needs are summed first.
    for which in (0, 1):
        names, t = (a_names, a) if which == 0 else (b_names, b)
        gone = [i for i, n in enumerate(names) if n not in both and n not in keep]
        if gone:
            t = t.sum(gone)
            names = [n for i, n in enumerate(names) if i not in gone]
        if which == 0:
            a, a_names = t, names
        else:
            b, b_names = t, names
    only_a = [n for n in a_names if n not in both]
    only_b = [n for n in b_names if n not in both]
    sizes = dict(zip(a_names, a.shape))
    for n, s in zip(b_names, b.shape):
        if sizes.get(n, 1) not in (1, s) and s != 1:
            raise RuntimeError(
                f"einsum(): subscript {n} has size {s} which does not broadcast with previously seen size {sizes[n]}"
            )
        sizes[n] = max(sizes.get(n, 1), s) if 0 not in (sizes.get(n, 1), s) else 0

    def size(names):
        out = 1
        for n in names:
            out *= sizes[n]
        return out

    a = _order(a, a_names, batch + only_a + inner)
    b = _order(b, b_names, batch + inner + only_b)
    a = a.expand([sizes[n] for n in batch + only_a + inner]).reshape([size(batch), size(only_a), size(inner)])
    b = b.expand([sizes[n] for n in batch + inner + only_b]).reshape([size(batch), size(inner), size(only_b)])
    names = batch + only_a + only_b
    return a.matmul(b).reshape([sizes[n] for n in names]), names


def einsum(equation, operands):
    """The sum over products of operands that the equation names."""
    if not operands:
        raise RuntimeError("einsum(): must provide at least one operand")
    terms, out = _parse(equation, operands)
    operands = [_diagonals(t, names) for t, names in zip(operands, terms)]
    result, names = operands[0]
    for k, (t, t_names) in enumerate(operands[1:], 1):
        later = set(out) | {n for _, ns in operands[k + 1 :] for n in ns}
        result, names = _contract(result, names, t, t_names, later)
    gone = [i for i, n in enumerate(names) if n not in out]
    if gone:
        result = result.sum(gone)
        names = [n for n in names if n in out]
    return result.permute(*[names.index(n) for n in out]) if len(out) > 1 else result


__all__ = ["einsum"]
