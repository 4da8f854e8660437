//! What all tables agree upon: who and what exists, and when it happened.

use super::SampleOptions;

/// Microseconds of one day.
pub(super) const DAY: i64 = 86_400_000_000;

/// 2024-01-01T00:00:00Z in microseconds since 1970: the day of the first order.
pub(super) const OPENING: i64 = 1_704_067_200_000_000;

/// The shop whose lake this is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shop {
    pub(super) seed: u64,
    /// Customers are numbered from 1 up to this.
    pub(super) customers: u64,
    /// Orders are numbered from 1 up to this, those that arrive late apart.
    pub(super) orders: u64,
}

impl Shop {
    pub(super) fn new(options: SampleOptions) -> Self {
        let customers = u64::from(options.customers);
        Shop { seed: options.seed, customers, orders: customers * 10 }
    }

    /// Orders that reach the lake after their month was written.
    pub(super) fn late_orders(self) -> impl Iterator<Item = u64> {
        let late = self.orders / 100;
        (self.orders + 1..=self.orders + late).filter(|order| !is_test_order(*order))
    }
}

/// Orders placed to try the shop out; they are deleted from the lake later.
pub(super) fn is_test_order(order: u64) -> bool {
    order.is_multiple_of(97)
}

/// The condition of [`is_test_order`] for the writer of Delta tables.
pub(super) const TEST_ORDERS: &str = "order_id % 97 = 0";
