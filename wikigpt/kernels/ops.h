/* Included twice by kernels.c: T is bfloat16 or float32, LOAD and STORE go from it to float and back. */

/* y = (x - mean) / deviation * weight + bias of each row; RMSNorm has neither mean nor bias. Keeps both for the way back. */
void NAME(norm)(i64 rows, i64 D, float eps, i64 centred, const float *x, const float *weight, const float *bias, T *y,
                float *means, float *scales, i64 threads) {
    EACH_PART(rows) {
        const float *xs = x + row * D;
        float sum = 0, squares = 0;
        if (centred) {
#pragma omp simd reduction(+ : sum)
            for (i64 i = 0; i < D; i++) sum += xs[i];
        }
        float mean = sum / D;
#pragma omp simd reduction(+ : squares)
        for (i64 i = 0; i < D; i++) squares += (xs[i] - mean) * (xs[i] - mean);
        float scale = 1.0f / sqrtf(squares / D + eps);
        means[row] = mean, scales[row] = scale;
        T *ys = y + row * D;
        if (bias)
#pragma omp simd
            for (i64 i = 0; i < D; i++) ys[i] = STORE((xs[i] - mean) * scale * weight[i] + bias[i]);
        else
#pragma omp simd
            for (i64 i = 0; i < D; i++) ys[i] = STORE((xs[i] - mean) * scale * weight[i]);
    }
}

/* weight_grads and bias_grads: one row for each part, to be added up. */
void NAME(norm_backward)(i64 rows, i64 D, i64 centred, const float *x, const float *weight, const float *means,
                         const float *scales, const T *y_grad, float *x_grad, float *weight_grads, float *bias_grads,
                         i64 threads) {
    EACH_PART(rows) {
        const float *xs = x + row * D, mean = means[row], scale = scales[row];
        const T *g = y_grad + row * D;
        float *out = x_grad + row * D, *dw = weight_grads + part * D;
        float sum = 0, product = 0;
#pragma omp simd reduction(+ : sum, product)
        for (i64 i = 0; i < D; i++) {
            float normed = (xs[i] - mean) * scale, grad = LOAD(g[i]);
            dw[i] += grad * normed;
            sum += grad * weight[i];
            product += grad * weight[i] * normed;
        }
        sum = centred ? sum / D : 0.0f;
        product /= D;
#pragma omp simd
        for (i64 i = 0; i < D; i++)
            out[i] = scale * (LOAD(g[i]) * weight[i] - sum - (xs[i] - mean) * scale * product);
        if (bias_grads) {
            float *db = bias_grads + part * D;
#pragma omp simd
            for (i64 i = 0; i < D; i++) db[i] += LOAD(g[i]);
        }
    }
}

/* x (B, Time, H, K), each head brought to length sqrt(K) and turned by its position, to y (B, H, Time, K). A row is a
 * position with all its heads; cosines and sines are (Time, K). */
void NAME(turn)(i64 B, i64 Time, i64 H, i64 K, float eps, const T *x, const float *weight, const float *cosines,
                const float *sines, T *y, i64 threads) {
    i64 half = K / 2;
    EACH_PART(B * Time) {
        i64 b = row / Time, t = row % Time;
        const float *c = cosines + t * K, *s = sines + t * K;
        for (i64 h = 0; h < H; h++) {
            const T *xs = x + (row * H + h) * K;
            T *ys = y + ((b * H + h) * Time + t) * K;
            float squares = 0;
#pragma omp simd reduction(+ : squares)
            for (i64 i = 0; i < K; i++) squares += LOAD(xs[i]) * LOAD(xs[i]);
            float scale = 1.0f / sqrtf(squares / K + eps);
#pragma omp simd
            for (i64 i = 0; i < half; i++) {
                float first = LOAD(xs[i]) * scale * weight[i], second = LOAD(xs[i + half]) * scale * weight[i + half];
                ys[i] = STORE(first * c[i] - second * s[i]);
                ys[i + half] = STORE(second * c[i] + first * s[i]);
            }
        }
    }
}

void NAME(turn_backward)(i64 B, i64 Time, i64 H, i64 K, float eps, const T *x, const float *weight,
                         const float *cosines, const float *sines, const T *y_grad, T *x_grad, float *weight_grads,
                         i64 threads) {
    i64 half = K / 2;
    EACH_PART(B * Time) {
        i64 b = row / Time, t = row % Time;
        const float *c = cosines + t * K, *s = sines + t * K;
        float *dw = weight_grads + part * K;
        for (i64 h = 0; h < H; h++) {
            const T *xs = x + (row * H + h) * K, *g = y_grad + ((b * H + h) * Time + t) * K;
            T *out = x_grad + (row * H + h) * K;
            float squares = 0, product = 0;
#pragma omp simd reduction(+ : squares)
            for (i64 i = 0; i < K; i++) squares += LOAD(xs[i]) * LOAD(xs[i]);
            float scale = 1.0f / sqrtf(squares / K + eps);
#pragma omp simd reduction(+ : product)
            for (i64 i = 0; i < half; i++) {
                float first = LOAD(g[i]) * c[i] + LOAD(g[i + half]) * s[i]; /* turned back */
                float second = LOAD(g[i + half]) * c[i] - LOAD(g[i]) * s[i];
                float x1 = LOAD(xs[i]) * scale, x2 = LOAD(xs[i + half]) * scale;
                dw[i] += first * x1;
                dw[i + half] += second * x2;
                product += first * weight[i] * x1 + second * weight[i + half] * x2;
            }
            product /= K;
#pragma omp simd
            for (i64 i = 0; i < half; i++) {
                float first = LOAD(g[i]) * c[i] + LOAD(g[i + half]) * s[i];
                float second = LOAD(g[i + half]) * c[i] - LOAD(g[i]) * s[i];
                out[i] = STORE(scale * (first * weight[i] - LOAD(xs[i]) * scale * product));
                out[i + half] = STORE(scale * (second * weight[i + half] - LOAD(xs[i + half]) * scale * product));
            }
        }
    }
}

/* silu(gate) * up. Here and below a row is 1,024 numbers. */
void NAME(swiglu)(i64 n, const T *gate, const T *up, T *y, i64 threads) {
    EACH_PART((n + 1023) / 1024) {
        i64 end = (row + 1) * 1024 < n ? (row + 1) * 1024 : n;
#pragma omp simd
        for (i64 i = row * 1024; i < end; i++) y[i] = STORE(LOAD(gate[i]) * sigmoid(LOAD(gate[i])) * LOAD(up[i]));
    }
}

void NAME(swiglu_backward)(i64 n, const T *gate, const T *up, const T *y_grad, T *gate_grad, T *up_grad, i64 threads) {
    EACH_PART((n + 1023) / 1024) {
        i64 end = (row + 1) * 1024 < n ? (row + 1) * 1024 : n;
#pragma omp simd
        for (i64 i = row * 1024; i < end; i++) {
            float x = LOAD(gate[i]), g = LOAD(y_grad[i]), s = sigmoid(x);
            gate_grad[i] = STORE(g * LOAD(up[i]) * s * (1.0f + x * (1.0f - s)));
            up_grad[i] = STORE(g * x * s);
        }
    }
}

/* GPT-2's bend: x / 2 (1 + tanh(u)) = x sigmoid(2 u) with u = sqrt(2 / pi) (x + 0.044715 x^3). */
void NAME(gelu)(i64 n, const T *x, T *y, i64 threads) {
    EACH_PART((n + 1023) / 1024) {
        i64 end = (row + 1) * 1024 < n ? (row + 1) * 1024 : n;
#pragma omp simd
        for (i64 i = row * 1024; i < end; i++) {
            float v = LOAD(x[i]);
            y[i] = STORE(v * sigmoid(1.5957691216f * v * (1.0f + 0.044715f * v * v)));
        }
    }
}

void NAME(gelu_backward)(i64 n, const T *x, const T *y_grad, T *x_grad, i64 threads) {
    EACH_PART((n + 1023) / 1024) {
        i64 end = (row + 1) * 1024 < n ? (row + 1) * 1024 : n;
#pragma omp simd
        for (i64 i = row * 1024; i < end; i++) {
            float v = LOAD(x[i]), s = sigmoid(1.5957691216f * v * (1.0f + 0.044715f * v * v));
            float slope = s + v * s * (1.0f - s) * 1.5957691216f * (1.0f + 3.0f * 0.044715f * v * v);
            x_grad[i] = STORE(LOAD(y_grad[i]) * slope);
        }
    }
}

/* Scores of `queries` positions, of which the first stands at `past`, for `keys` positions, (N, queries, keys), become weights
 * in place: softmax(scale * scores) over what is not later. */
void NAME(softmax)(i64 N, i64 queries, i64 keys, i64 past, float scale, T *scores, i64 threads) {
    EACH_PART(N * queries) {
        T *s = scores + row * keys;
        i64 seen = past + row % queries + 1;
        float most = -INFINITY, sum = 0;
#pragma omp simd reduction(max : most)
        for (i64 i = 0; i < seen; i++) most = LOAD(s[i]) > most ? LOAD(s[i]) : most;
#pragma omp simd reduction(+ : sum)
        for (i64 i = 0; i < seen; i++) sum += exponential(scale * (LOAD(s[i]) - most));
        float share = 1.0f / sum;
#pragma omp simd
        for (i64 i = 0; i < seen; i++) s[i] = STORE(exponential(scale * (LOAD(s[i]) - most)) * share);
        memset(s + seen, 0, (keys - seen) * sizeof(T));
    }
}

/* Gradients of the weights become those of the scores, in place: scale * weight * (gradient - mean gradient). */
void NAME(softmax_backward)(i64 N, i64 queries, i64 keys, i64 past, float scale, const T *weights, T *grads, i64 threads) {
    EACH_PART(N * queries) {
        const T *w = weights + row * keys;
        T *g = grads + row * keys;
        i64 seen = past + row % queries + 1;
        float mean = 0;
#pragma omp simd reduction(+ : mean)
        for (i64 i = 0; i < seen; i++) mean += LOAD(w[i]) * LOAD(g[i]);
#pragma omp simd
        for (i64 i = 0; i < seen; i++) g[i] = STORE(scale * LOAD(w[i]) * (LOAD(g[i]) - mean));
        memset(g + seen, 0, (keys - seen) * sizeof(T));
    }
}

/* Logits (rows, width), of which V count, become the gradient of the cross-entropy in place (if `gradient`): softmax minus
 * one at the target. */
void NAME(cross_entropy)(i64 rows, i64 width, i64 V, i64 gradient, T *logits, const i64 *targets, float *losses,
                         i64 threads) {
    EACH_PART(rows) {
        T *x = logits + row * width;
        i64 target = targets[row];
        if (target < 0 || target >= V) { /* no token of this vocabulary */
            losses[row] = NAN;
            continue;
        }
        float most = -INFINITY, sum = 0, right = LOAD(x[target]);
#pragma omp simd reduction(max : most)
        for (i64 i = 0; i < V; i++) most = LOAD(x[i]) > most ? LOAD(x[i]) : most;
#pragma omp simd reduction(+ : sum)
        for (i64 i = 0; i < V; i++) sum += exponential(LOAD(x[i]) - most);
        losses[row] = most + logf(sum) - right;
        if (!gradient) continue;
        float share = 1.0f / sum;
#pragma omp simd
        for (i64 i = 0; i < V; i++) x[i] = STORE(exponential(LOAD(x[i]) - most) * share);
        x[target] = STORE(exponential(right - most) * share - 1.0f);
        memset(x + V, 0, (width - V) * sizeof(T));
    }
}
