/* Random numbers, and Zipf's law by rejection-inversion (Hörmann and Derflinger 1996): exact for
 * any exponent, with no table to build. */
#include "agent.h"

#include <math.h>

static uint64_t state;

void random_seed(uint64_t seed)
{
	state = seed;
}

uint64_t random_word(void)
{
	return mix(state += 0x9E3779B97F4A7C15ull);
}

double random_unit(void)
{
	return (double)(random_word() >> 11) * 0x1p-53;
}

/* Integral of x^-e from 1, and its inverse; both are well behaved at e = 1. */
static double area(double x, double exponent)
{
	double log_x = log(x), t = (1 - exponent) * log_x;
	return fabs(t) > 1e-8 ? expm1(t) / t * log_x : log_x * (1 + t / 2);
}

static double inverse(double y, double exponent)
{
	double t = fmax(-1, y * (1 - exponent));
	return exp(fabs(t) > 1e-8 ? log1p(t) / t * y : y * (1 - t / 2));
}

static double height(double x, double exponent)
{
	return exp(-exponent * log(x));
}

static uint64_t common_divisor(uint64_t a, uint64_t b)
{
	while (b) {
		uint64_t rest = a % b;
		a = b;
		b = rest;
	}
	return a;
}

void zipf_init(struct zipf *zipf, uint64_t count, double exponent, uint64_t seed)
{
	zipf->count = count;
	zipf->exponent = exponent;
	zipf->low = area(1.5, exponent) - 1;
	zipf->high = area((double)count + 0.5, exponent);
	zipf->cut = 2 - inverse(area(2.5, exponent) - height(2, exponent), exponent);
	zipf->step = (uint64_t)((double)count * 0.6180339887) | 1;
	while (common_divisor(zipf->step, count) != 1)
		zipf->step += 2;
	zipf->offset = count ? mix(seed) % count : 0;
}

static uint64_t rank(const struct zipf *zipf)
{
	for (;;) {
		double u = zipf->high + random_unit() * (zipf->low - zipf->high);
		double x = inverse(u, zipf->exponent), k = floor(x + 0.5);
		k = k < 1 ? 1 : k > (double)zipf->count ? (double)zipf->count : k;
		if (k - x <= zipf->cut ||
		    u >= area(k + 0.5, zipf->exponent) - height(k, zipf->exponent))
			return (uint64_t)k - 1;
	}
}

/* A page number; the popular ones are scattered over all pages. */
uint64_t zipf_draw(const struct zipf *zipf)
{
	return (rank(zipf) * zipf->step + zipf->offset) % zipf->count;
}
